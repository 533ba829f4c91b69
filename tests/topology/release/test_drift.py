"""A second run changes nothing; whatever was altered by hand is reported, repaired, and then is no difference any more."""

from __future__ import annotations

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from tests.topology.release.conftest import TIMER, Environment

RELAY = "cpq-oms-relay.service"


def test_a_second_run_reports_no_change_and_leaves_every_process_alone(environment: Environment) -> None:
    pids = environment.main_pids()

    run = environment.release()

    assert (run.code, run.changed) == (0, 0), run.output
    assert environment.main_pids() == pids
    assert environment.last_run() == ("succeeded", "{}")


def test_check_mode_on_a_released_host_succeeds_and_changes_nothing(environment: Environment) -> None:
    runs = environment.sql("SELECT count(*) FROM cpq.release_run")

    run = environment.release("--check", "--diff")

    assert (run.code, run.changed) == (0, 0), run.output
    assert environment.sql("SELECT count(*) FROM cpq.release_run") == runs


# What is altered on the host, by a command, and what the run must then say that it repaired.
DRIFTS = {
    "unit": (f"echo '# altered' >> /etc/systemd/system/{RELAY}", RELAY),
    "setting": ("sed -i s/INFO/DEBUG/ /etc/cpq-oms/api.env", "/etc/cpq-oms/api.env"),
    "file": ("rm /usr/local/bin/cpq-oms-admin", "/usr/local/bin/cpq-oms-admin"),
    "mode": ("chmod 0644 /etc/cpq-oms/credentials/worker/db-password", "credentials/worker/db-password"),
    "credential": (
        "echo wrong > /etc/cpq-oms/credentials/consumer/kafka-password",
        "credentials/consumer/kafka-password",
    ),
    "stray file": ("echo X=1 > /etc/cpq-oms/credentials/relay/stray", "credentials/relay/stray"),
    "stopped service": ("systemctl stop cpq-oms-simulator.service", "cpq-oms-simulator.service"),
    "disabled service": ("systemctl disable -q cpq-oms-worker@starter.service", "cpq-oms-worker@starter.service"),
    "installed artifact": (
        "echo '# altered' >> $(find /opt/cpq-oms/consumer/current/ -path '*app/entrypoints/consumer/loop.py')",
        "app/entrypoints/consumer/loop.py",
    ),
    "stopped timer": (f"systemctl stop {TIMER}", TIMER),
    "package": ("dpkg --purge --force-depends curl", "curl"),
}
DRIFTS_OF_DATA = {
    "grant": ("GRANT DELETE ON cpq.quote TO cpq_api", "revoke cpq_api: DELETE on table quote"),
    "revoked grant": ("REVOKE SELECT ON cpq.quote FROM cpq_api", "grant cpq_api: SELECT on table quote"),
    "flag": ("DELETE FROM cpq.feature_flag", "set order-fulfillment-start to its default"),
}


@pytest.fixture
def altered(environment: Environment) -> Environment:
    """Everything altered at once: a run costs the same for one difference and for all."""
    for command, _ in DRIFTS.values():
        environment.host.run(command)
    for statement, _ in DRIFTS_OF_DATA.values():
        environment.sql(statement)
    return environment


def test_every_alteration_is_reported_repaired_and_then_gone(altered: Environment) -> None:
    alter_topic(altered)

    run = altered.release("--diff", "-v", playbooks=("playbooks/base.yml", "release.yml"))

    assert run.code == 0, run.output
    reported = {**DRIFTS, **DRIFTS_OF_DATA, "topic": ("", "set retention.ms=")}
    assert [name for name, (_, report) in reported.items() if report not in run.output] == []

    again = altered.release("-v", playbooks=("playbooks/base.yml", "release.yml"))

    assert (again.code, again.changed) == (0, 0), again.output
    assert altered.timer_runs()


def alter_topic(environment: Environment) -> None:
    """Give a topic another retention than declared, as somebody with the administrator's password could."""

    client = KafkaAdminClient(
        bootstrap_servers=f"{environment.host.address}:9092",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username="admin",
        sasl_plain_password=environment.host.secret("kafka_admin_password"),
    )
    try:
        topic = ConfigResource(ConfigResourceType.TOPIC, "oms.order.events.v1", {"retention.ms": "3600000"})
        client.alter_configs([topic])
    finally:
        client.close()
