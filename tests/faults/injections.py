"""The faults that a scenario can name: each a function of the trial, named in scenarios.yml by the name it has here.

An injection returns when its fault is over and what it broke runs again; what is left to put back is put back at the
trial's end in any case. A moment that never comes is an error: a fault that did not strike proves nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import redis
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from app.contracts.loader import load_topics
from tests.faults.evidence import connect
from tests.faults.postgres_proxy import At, Moment
from tests.faults.trial import Fault, FaultDidNotStrikeError, Trial
from tests.faults.units import Unit
from tests.support.loopback_proxy import Direction

_MOMENT_SECONDS = 45.0
_RESTART_SECONDS = 0.4
_TABLE = "cpq_faults"


def kill(unit: str, *, at: At, of: str, nth: int | list[int] = 1, down: float = _RESTART_SECONDS) -> Fault:
    """kill -9 of a unit at a moment of its talk with the database, then a start as after a crash.

    Args:
        unit: its name.
        at: which side of which message.
        of: pattern of the statement.
        nth: the how many-th time, or the least and the most, from which the seed chooses.
        down: seconds until it is started again.
    """

    def inject(trial: Trial) -> None:
        victim = trial.units[unit]

        def strike() -> bool:
            victim.kill()
            return False

        _hit(trial, victim, (at, of, nth), strike)
        time.sleep(down)
        victim.restart()

    return inject


def cut(unit: str, *, at: At, of: str, nth: int | list[int] = 1) -> Fault:
    """Lose a message and its connection; the unit goes on living, and does not know what became of it."""

    def inject(trial: Trial) -> None:
        _hit(trial, trial.units[unit], (at, of, nth), lambda: False)

    return inject


def hold(unit: str, *, at: At, of: str, seconds: float, nth: int | list[int] = 1) -> Fault:
    """Keep one message for a while, and all others flow: a transaction that commits late."""

    def inject(trial: Trial) -> None:
        def strike() -> bool:
            time.sleep(seconds)
            return True

        _hit(trial, trial.units[unit], (at, of, nth), strike)

    return inject


def freeze(unit: str, *, seconds: float, at: At | None = None, of: str = "", nth: int | list[int] = 1) -> Fault:
    """Stop a unit's time, at a moment or at once, and let it go on later: a zombie that knows nothing of it."""

    def inject(trial: Trial) -> None:
        victim = trial.units[unit]

        def strike() -> bool:
            victim.freeze()
            return True

        if at is None:
            victim.freeze()
        else:
            _hit(trial, victim, (at, of, nth), strike)
        time.sleep(seconds)
        victim.thaw()

    return inject


def crash(unit: str, *, after: float = 1.0, down: float = _RESTART_SECONDS) -> Fault:
    """kill -9 of a unit at any moment."""

    def inject(trial: Trial) -> None:
        time.sleep(after * trial.chance.uniform(0.5, 1.5))
        trial.units[unit].kill()
        time.sleep(down)
        trial.units[unit].restart()

    return inject


def crash_loop(unit: str, *, at: At, of: str, times: int) -> Fault:
    """A unit that dies at the same moment of one order's work, again and again, until it is let alone.

    The order is accepted while the unit is down; every delivery of its work kills. Others' work goes on in between.
    """

    def inject(trial: Trial) -> None:
        victim = trial.units[unit]
        victim.kill()
        if not trial.load.wait_accepted(trial.load.accepted + 1, _MOMENT_SECONDS):
            raise FaultDidNotStrikeError("no order was accepted")
        poison = f"(?s){of}.*{trial.load.newest}"
        victim.restart()

        def strike() -> bool:
            victim.kill()
            return False

        for _ in range(times):
            _hit(trial, victim, (at, poison, 1), strike, seconds=150)
            time.sleep(_RESTART_SECONDS)
            victim.restart()

    return inject


def twin(unit: str, *, seconds: float) -> Fault:
    """A second process of a unit beside the first, for a while."""

    def inject(trial: Trial) -> None:
        trial.units.add_twin(unit)
        trial.cleanups.callback(lambda: _remove_twin(trial, unit))
        time.sleep(seconds)

    return inject


def lose_replies(unit: str, *, at: At, of: str, nth: int | list[int] = 1, seconds: float = 3.0) -> Fault:
    """From a moment on lose what the engine answers, then kill the unit: its last request was carried out unheard."""

    def inject(trial: Trial) -> None:
        victim = trial.units[unit]
        engine = victim.engine
        assert engine is not None

        def strike() -> bool:
            engine.is_losing_replies = True
            return True

        try:
            _hit(trial, victim, (at, of, nth), strike)
            time.sleep(seconds)
            victim.kill()
        finally:
            engine.is_losing_replies = False
        victim.restart()

    return inject


def on_host(command: str, *, heal: str, seconds: float, after: float = 1.0) -> Fault:
    """Break a service of the host by a command, and mend it by another some seconds later."""

    def inject(trial: Trial) -> None:
        time.sleep(after)
        trial.cleanups.callback(lambda: trial.units.host.run(heal, check=False))
        trial.units.host.run(command)
        time.sleep(seconds)
        trial.units.host.run(heal)

    return inject


def behave(system: str, *, seconds: float | None = None, **behaviour: Any) -> Fault:
    """Let an external system behave badly for a while; without an end, until all of the trial's faults are over."""

    def inject(trial: Trial) -> None:
        trial.cleanups.callback(lambda: _behave(trial, system, {}))
        _behave(trial, system, behaviour)
        if seconds is not None:
            time.sleep(seconds)
            _behave(trial, system, {})

    return inject


def flush(_what: str, *, times: int = 3, pause: float = 1.0) -> Fault:
    """Lose everything that is in Redis, several times."""

    def inject(trial: Trial) -> None:
        host = trial.units.host
        client = redis.Redis(
            host=host.address, username="admin", password=host.secret("redis_admin_password"), protocol=2
        )
        with contextlib.closing(client):
            for _ in range(times):
                time.sleep(pause)
                for tenant in trial.run.tenants:
                    keys = list(client.scan_iter(match=f"*:{tenant.tenant_id}:*", count=1000))
                    if keys:
                        client.delete(*keys)

    return inject


def partition(unit: str, *, way: str, direction: Direction, seconds: float) -> Fault:
    """A one-way partition: what a unit sends on one of its ways arrives nowhere (`out`), or it hears no answer (`in`).

    Args:
        unit: its name.
        way: `postgresql`, `engine`, `redis`, `providers` or `kafka`.
        direction: which half of the conversation is cut.
        seconds: how long; what was held back goes on afterwards, where the unit still waits for it.
    """

    def inject(trial: Trial) -> None:
        victim = trial.units[unit]
        if way == "kafka":
            _cut_from_kafka(trial, victim, direction, seconds)
            return
        proxy = victim.ways[way]
        before, end = proxy.held_back, time.monotonic() + _MOMENT_SECONDS
        trial.cleanups.callback(proxy.stalled.clear)
        proxy.stalled.add(direction)
        while proxy.held_back == before:  # it may rest just now
            if time.monotonic() > end:
                raise FaultDidNotStrikeError(f"{unit} and {way} had nothing to say to each other")
            time.sleep(0.1)
        time.sleep(seconds)
        proxy.stalled.clear()

    return inject


def _cut_from_kafka(trial: Trial, victim: Unit, direction: Direction, seconds: float) -> None:
    """Drop one direction between a unit and the broker for so long after the first packet that is dropped.

    The broker names its own address, so no proxy stands there, and the host's only peer is this machine: the rule tells
    units apart by the ports of their connections. The client keeps those for longer than any of these faults lasts.
    """
    host, port = trial.units.host.address, 9092
    end = time.monotonic() + _MOMENT_SECONDS
    while not (ports := _local_ports(victim, host, port)):  # a relay connects when it has its first event
        if time.monotonic() > end:
            raise FaultDidNotStrikeError(f"{victim.name} never connected to port {port}")
        time.sleep(0.1)
    numbers = ", ".join(str(number) for number in ports)
    mine = f"ip saddr {host} tcp sport {port} tcp dport {{ {numbers} }} counter drop"
    theirs = f"ip daddr {host} tcp dport {port} tcp sport {{ {numbers} }} counter drop"
    chain, rule = ("output", theirs) if direction == "out" else ("input", mine)
    _nft(f"table inet {_TABLE} {{\nchain {chain} {{\ntype filter hook {chain} priority -10\n{rule}\n}}\n}}\n")
    trial.cleanups.callback(lambda: _nft(f"table inet {_TABLE} {{ }}\ndelete table inet {_TABLE}"))
    while not _dropped():
        if time.monotonic() > end:
            raise FaultDidNotStrikeError(f"{victim.name} and kafka had nothing to say to each other")
        time.sleep(0.1)
    time.sleep(seconds)
    _nft(f"delete table inet {_TABLE}")


def _dropped() -> int:
    """How many packets the partition has dropped."""
    listed = subprocess.run(["nft", "list", "table", "inet", _TABLE], check=True, capture_output=True, text=True).stdout
    return sum(int(packets) for packets in re.findall(r"counter packets (\d+)", listed))


def defer(_what: str, *, seconds: float) -> Fault:
    """Put off each order's first event, as if Kafka had refused it once, while its later ones are due."""

    def inject(trial: Trial) -> None:
        relay = trial.units["relay"]
        relay.kill()
        if not trial.load.wait_accepted(4, _MOMENT_SECONDS):
            raise FaultDidNotStrikeError("no order was accepted")
        end = time.monotonic() + _MOMENT_SECONDS
        with connect(trial.units.host, "owner") as connection:
            while time.monotonic() < end:
                later = connection.execute(
                    "SELECT count(*) AS n FROM cpq.outbox_event WHERE aggregate_seq > 1 AND aggregate_type = 'order' "
                    "AND state = 'pending' AND tenant_id = ANY(%s)",
                    (trial.run.tenant_ids,),
                ).fetchone()
                if later is not None and later["n"] >= 4:
                    break
                time.sleep(0.2)
            changed = connection.execute(
                "UPDATE cpq.outbox_event SET next_attempt_at = now() + make_interval(secs => %s), attempts = 1 "
                "WHERE state = 'pending' AND aggregate_seq = 1 AND tenant_id = ANY(%s)",
                (seconds, trial.run.tenant_ids),
            ).rowcount
        if not changed:
            raise FaultDidNotStrikeError("no event was there to put off")
        relay.restart()
        time.sleep(seconds)

    return inject


def move_offsets(group: str, *, topic: str, by: int) -> Fault:
    """Stop a consumer, let orders go by, move what Kafka remembers of its position, and start it again."""

    def inject(trial: Trial) -> None:
        consumer = trial.units[f"consumer@{group}"]
        consumer.kill()
        trial.load.wait_accepted(trial.load.accepted + 6, _MOMENT_SECONDS)
        client = KafkaConsumer(
            bootstrap_servers=[f"{trial.units.host.address}:9092"],
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_plain_username="admin",
            sasl_plain_password=trial.units.host.secret("kafka_admin_password"),
            group_id=group,
            enable_auto_commit=False,
        )
        try:
            known = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
            client.assign(known)
            ends = client.end_offsets(known)
            moved = {one: OffsetAndMetadata(max(0, ends[one] + by), "", -1) for one in known}
            end = time.monotonic() + 40
            while True:
                try:
                    client.commit(moved)
                    break
                except KafkaError:  # while the dead member's session lasts
                    if time.monotonic() > end:
                        raise
                    time.sleep(1)
        finally:
            client.close()
        consumer.restart()

    return inject


def forge(_what: str, *, topic: str) -> Fault:
    """Write events that say one tenant in the header and another in the payload, and one that nobody committed."""

    def inject(trial: Trial) -> None:
        if not trial.load.wait_accepted(2, _MOMENT_SECONDS):
            raise FaultDidNotStrikeError("no order was accepted")
        own, other = trial.run.tenants[:2]
        with connect(trial.units.host) as connection:
            row = connection.execute(
                "SELECT event_id, aggregate_id, payload, event_type FROM cpq.outbox_event WHERE tenant_id = %s "
                "AND topic = %s LIMIT 1",
                (own.tenant_id, topic),
            ).fetchone()
        if row is None:
            raise FaultDidNotStrikeError("no event to forge from")
        forged = str(uuid.uuid4())  # never the seed's: a second run's would be known already
        payload = {**json.loads(row["payload"]), "eventId": forged, "state": "failed"}
        trial.expected += [{"name": "forged", "item": forged}]
        headers = {
            "ce_specversion": "1.0", "ce_id": forged, "ce_source": "/cpq-oms/order", "ce_type": row["event_type"],
            "ce_time": payload["occurredAt"], "ce_tenantid": other.tenant_id,
            "ce_partitionkey": str(row["aggregate_id"]), "ce_sequence": "1", "content-type": "application/json",
        }  # fmt: skip
        producer = KafkaProducer(
            bootstrap_servers=[f"{trial.units.host.address}:9092"],
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_plain_username="admin",
            sasl_plain_password=trial.units.host.secret("kafka_admin_password"),
            acks="all",
        )
        try:
            producer.send(
                topic,
                key=str(row["aggregate_id"]).encode(),
                value=json.dumps(payload).encode(),
                headers=[(name, value.encode()) for name, value in headers.items()],
            ).get(10)
        finally:
            producer.close()
        _bury(trial, forged, len(load_topics()[topic].consumer_groups))

    return inject


def _bury(trial: Trial, event_id: str, groups: int) -> None:
    """As an operator, discard what every group gave up on: what came later of the same order waits for that."""
    end = time.monotonic() + _MOMENT_SECONDS
    with connect(trial.units.host) as connection:
        while True:
            letters = connection.execute(
                "SELECT dead_letter_id FROM cpq.dead_letter WHERE event_id = %s AND state = 'open'", (event_id,)
            ).fetchall()
            if len(letters) == groups:
                break
            if time.monotonic() > end:
                raise FaultDidNotStrikeError(f"{len(letters)} of {groups} groups gave the forged event up")
            time.sleep(0.5)
    for letter in letters:
        trial.units.host.run(
            f"cpq-oms-admin dead-letters discard {letter['dead_letter_id']} --reason 'forged by a fault test, no effect'"
        )


INJECTIONS: Mapping[str, Callable[..., Fault]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        kill, cut, hold, freeze, crash, crash_loop, twin, lose_replies, on_host, behave, flush, partition, defer,
        move_offsets, forge,
    )
}  # fmt: skip


def _hit(
    trial: Trial,
    victim: Unit,
    when: tuple[At, str, int | list[int]],
    strike: Callable[[], bool],
    *,
    seconds: float = _MOMENT_SECONDS,
) -> None:
    """Wait until a moment was hit: which side of what, and the how many-th time."""
    at, of, nth = when
    assert victim.database is not None
    count = nth if isinstance(nth, int) else trial.chance.randint(*nth)
    moment = victim.database.arm(Moment(at, of, count, strike))
    trial.cleanups.callback(victim.database.disarm)
    if not moment.hit.wait(seconds):
        victim.database.disarm()
        raise FaultDidNotStrikeError(f"{victim.name} never came {at} of {of!r}, seen {moment.seen} of {count} times")


def _remove_twin(trial: Trial, unit: str) -> None:
    trial.run.logs[f"{unit}-2"] = trial.units.remove_twin(unit)


def _behave(trial: Trial, system: str, behaviour: Mapping[str, Any]) -> None:
    request = urllib.request.Request(
        f"http://{trial.units.host.address}:8090/control/behaviours/{system}",
        json.dumps(behaviour).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=10).close()


def _local_ports(unit: Unit, host: str, port: int) -> list[int]:
    """The ports from which a unit's processes are connected to a port of the host."""
    listed = subprocess.run(["ss", "-Htnp", "dst", f"{host}:{port}"], check=True, capture_output=True, text=True).stdout
    own = {f"pid={pid}," for pid in unit.pids}
    return [
        int(match[1])
        for line in listed.splitlines()
        if any(mark in line for mark in own) and (match := re.search(r":(\d+)\s+\S+:\d+", line))
    ]


def _nft(rules: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=rules, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\n{rules}"
