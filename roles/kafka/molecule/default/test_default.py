"""The broker keeps records for those who may write and read them, and for nobody else."""

import contextlib

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

UNIT = "kafka.service"
TOPIC = "probe"


def login(user, password):
    return {
        "bootstrap_servers": "10.56.3.11:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": user,
        "sasl_plain_password": password,
    }


ADMIN = login("admin", "adminPasswordOfTheTest1")
CLERK = login("clerk", "clerkPasswordOfTheTest1")


def test_broker_runs_as_its_own_user_and_starts_with_the_host(host):
    service = host.service(UNIT)

    assert service.is_running, host.check_output(f"journalctl --no-pager --lines=40 --unit={UNIT}")
    assert service.is_enabled
    assert service.systemd_properties["User"] == "kafka"


def test_unit_is_hardened(host):
    service = host.service(UNIT)

    assert service.systemd_properties["ProtectSystem"] == "strict"
    assert service.systemd_properties["NoNewPrivileges"] == "yes"
    assert host.run(f"systemd-analyze security --no-pager --threshold=20 {UNIT}").rc == 0


def test_record_that_was_acknowledged_is_read_back():
    admin = KafkaAdminClient(**ADMIN)
    with contextlib.suppress(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
    producer = KafkaProducer(acks="all", enable_idempotence=True, **ADMIN)
    written = producer.send(TOPIC, b"kept").get(timeout=10)
    consumer = KafkaConsumer(auto_offset_reset="earliest", consumer_timeout_ms=10_000, **ADMIN)
    consumer.subscribe([TOPIC])

    assert any(record.offset == written.offset and record.value == b"kept" for record in consumer)


def test_user_without_a_permission_writes_nothing():
    producer = KafkaProducer(acks="all", max_block_ms=5000, **CLERK)

    with pytest.raises(KafkaError):
        producer.send(TOPIC, b"forged").get(timeout=5)


def test_wrong_password_is_refused():
    with pytest.raises(KafkaError):
        KafkaAdminClient(**login("admin", "wrong"), bootstrap_timeout_ms=5000)


def test_secrets_are_only_where_they_belong(host):
    assert host.file("/etc/kafka/credentials").mode == 0o700
    assert host.run("grep -rlF PasswordOfTheTest1 /etc/kafka --exclude-dir=credentials").rc == 1
    assert host.run("journalctl --no-pager | grep -F PasswordOfTheTest1").rc == 1
    assert host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[P]asswordOfTheTest1'").rc == 1
