"""Brokers are restarted one at a time while orders go on, and none where the others could not do without it."""

from __future__ import annotations

import shlex
import time

import pytest

from tests.support.rehearsal import ORDERS_A_SECOND, Rehearsal

TIERS = ("kafka", "zeebe")
# A broker that led takes its clients' next attempt with it; idle machines need less than half.
LONGEST_PAUSE_SECONDS = 15
PROBE = "probe.spare-none"
# Makes a topic that can spare no replica, or removes it. The admin unit's environment has the client, and its host may reach the brokers.
PROGRAM = """
import sys
from kafka.admin import KafkaAdminClient, NewTopic
client = KafkaAdminClient(bootstrap_servers=[sys.argv[2]], security_protocol="SASL_SSL", ssl_cafile="/etc/cpq-oms/tls/ca.pem",
    sasl_mechanism="SCRAM-SHA-256", sasl_plain_username="admin", sasl_plain_password=sys.stdin.readline().strip())
if sys.argv[1] == "make":
    client.create_topics([NewTopic(sys.argv[3], 1, 3, topic_configs={"min.insync.replicas": "3"})])
else:
    client.delete_topics([sys.argv[3]])
"""


def since(rehearsal: Rehearsal, tier: str) -> dict[str, float]:
    """Return when the service of each host of a tier was started last, on the clock of this machine."""
    ask = f"systemctl show --property=ActiveEnterTimestampMonotonic --value {tier}.service"
    return {host: int(rehearsal.run(host, ask).stdout) / 1e6 for host in rehearsal.groups[tier]}


def leader_of_controllers(rehearsal: Rehearsal) -> str:
    """Return the host of the Kafka node that leads the controllers, by its own figures."""
    figure = "kafka_controller_kafkacontroller_activecontrollercount"
    hosts = rehearsal.groups["kafka"]
    figures = {
        host: rehearsal.run(host, f"curl -sf http://{rehearsal.hosts[host]}:9404/metrics").stdout for host in hosts
    }
    (leader,) = [host for host in hosts if f"{figure} 1.0" in figures[host].lower()]
    return leader


def probe_topic(rehearsal: Rehearsal, act: str) -> None:
    """Make the topic, or remove it."""
    broker = f"{rehearsal.hosts[rehearsal.groups['kafka'][0]]}:9092"
    command = f"/opt/cpq-oms/admin/current/bin/python -c {shlex.quote(PROGRAM)} {act} {broker} {PROBE}"
    rehearsal.run(rehearsal.groups["admin"][0], command, standard_input=rehearsal.secret("kafka_admin_password") + "\n")


@pytest.mark.parametrize("tier", TIERS)
def test_every_broker_is_restarted_while_orders_go_on(rehearsal: Rehearsal, tier: str) -> None:
    before = since(rehearsal, tier)
    leader = leader_of_controllers(rehearsal) if tier == "kafka" else None
    with rehearsal.customers(rate=ORDERS_A_SECOND) as told:
        time.sleep(3)
        rehearsal.play(f"{tier}_restart")

    after = since(rehearsal, tier)
    print(
        f"{tier}: {len(told['orders'])} orders, longest pause {told['pause']:.1f} s, {len(told['failed'])} attempts repeated"
    )
    assert [host for host in before if after[host] <= before[host]] == []
    if leader:
        assert max(after, key=lambda host: after[host]) == leader
    assert (told["gave_up"], told["missing"], told["unfinished"]) == ([], [], {})
    assert told["pause"] < LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("tier", TIERS)
def test_no_broker_is_restarted_while_another_is_away(rehearsal: Rehearsal, tier: str) -> None:
    *others, away = rehearsal.groups[tier]
    rehearsal.run(away, f"systemctl stop {tier}.service")
    try:
        before = since(rehearsal, tier)
        done = rehearsal.play(f"{tier}_restart", check=False)

        assert done.returncode != 0
        assert "is not restarted" in done.stdout
        assert {host: since(rehearsal, tier)[host] for host in others} == {host: before[host] for host in others}
    finally:
        rehearsal.run(away, f"systemctl start {tier}.service")
        rehearsal.play(tier)


def test_no_broker_is_restarted_whose_replica_a_topic_cannot_spare(rehearsal: Rehearsal) -> None:
    before = since(rehearsal, "kafka")
    probe_topic(rehearsal, "make")
    try:
        done = rehearsal.play("kafka_restart", check=False)
    finally:
        probe_topic(rehearsal, "remove")

    assert done.returncode != 0
    assert f"{PROBE}-0 would keep 2 of 3 required replicas in sync" in done.stdout
    assert since(rehearsal, "kafka") == before
