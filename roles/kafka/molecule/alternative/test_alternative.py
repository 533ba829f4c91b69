"""A broker that speaks TLS only, knows today's users alone, and is sized by its host."""

import re

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, MessageSizeTooLargeError

ADDRESS = "10.56.3.11"
PATIENCE_MS = 5000


@pytest.fixture(scope="module")
def roots(tmp_path_factory, host):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_text(host.file("/etc/cpq-oms/tls/ca.pem").content_string)
    return path


def login(user, password, roots=None):
    return {
        "bootstrap_servers": f"{ADDRESS}:9192",
        "security_protocol": "SASL_SSL" if roots else "SASL_PLAINTEXT",
        "ssl_cafile": str(roots) if roots else None,
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": user,
        "sasl_plain_password": password,
    }


def keeper(roots):
    return KafkaAdminClient(**login("keeper", "keeperPasswordOfTheTest1", roots))


def test_clients_that_trust_the_root_are_served(roots):
    admin = keeper(roots)
    if "probe" not in admin.list_topics():
        admin.create_topics([NewTopic("probe", 1, 1)])
    producer = KafkaProducer(acks="all", **login("keeper", "keeperPasswordOfTheTest1", roots))

    assert producer.send("probe", b"kept").get(timeout=10).offset >= 0


def test_without_tls_nobody_is_served():
    with pytest.raises(KafkaError):
        KafkaAdminClient(**login("keeper", "keeperPasswordOfTheTest1"), bootstrap_timeout_ms=PATIENCE_MS)


@pytest.mark.parametrize(
    ("user", "password"),
    [("keeper", "formerKeeperPasswordOfTheTest1"), ("leaver", "leaverPasswordOfTheTest1")],
    ids=["former-password", "undeclared-user"],
)
def test_what_is_declared_no_more_is_refused(roots, user, password):
    with pytest.raises(KafkaError):
        KafkaAdminClient(**login(user, password, roots), bootstrap_timeout_ms=PATIENCE_MS)


def test_a_user_who_is_not_above_the_rules_needs_one(roots):
    producer = KafkaProducer(acks="all", max_block_ms=PATIENCE_MS, **login("clerk", "clerkPasswordOfTheTest1", roots))

    with pytest.raises(KafkaError):
        producer.send("probe", b"forged").get(timeout=5)


def test_settings_reach_the_broker(roots):
    producer = KafkaProducer(acks="all", **login("keeper", "keeperPasswordOfTheTest1", roots))
    admin = keeper(roots)
    if "probe" not in admin.list_topics():
        admin.create_topics([NewTopic("probe", 1, 1)])

    with pytest.raises(MessageSizeTooLargeError):
        producer.send("probe", b"x" * 10_000).get(timeout=10)


def test_heap_is_a_share_of_the_hosts_memory(host):
    memory = int(re.search(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string).group(1)) // 1024
    heap = int(re.search(r"^-Xmx(\d+)m$", host.file("/etc/kafka/java.args").content_string, re.MULTILINE).group(1))

    assert heap == min(max(memory // 4, 256), 6144)


def test_figures_are_shown_at_the_given_address_only(host):
    assert "kafka_" in host.check_output(f"curl --silent --fail --max-time 5 http://{ADDRESS}:9494/metrics")
    assert host.run("curl --silent --max-time 2 http://127.0.0.1:9494/metrics").rc != 0


def test_the_key_is_readable_by_the_broker_alone(host):
    key = host.file("/etc/cpq-oms/tls/kafka/key.pem")

    assert (key.user, key.group, key.mode) == ("root", "kafka", 0o640)
    assert host.run("grep -rlF PasswordOfTheTest1 /etc/kafka --exclude-dir=credentials").rc == 1
