"""kafka_scram_users and zeebe_topology: how they read what a broker or a gateway says, against servers of a few lines."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ansible_modules import ModuleRun, load

ROLES = Path(__file__).parents[3] / "roles"
protocol = load("kafka_protocol", ROLES / "kafka/module_utils")
# On a host Ansible puts it there.
sys.modules["ansible.module_utils.kafka_protocol"] = protocol
kafka = load("kafka_scram_users", ROLES / "kafka/library")
restart = load("kafka_restart", ROLES / "kafka/library")
zeebe = load("zeebe_gateway", ROLES / "zeebe/module_utils")
sys.modules["ansible.module_utils.zeebe_gateway"] = zeebe
load("zeebe_topology", ROLES / "zeebe/library")
zeebe_restart = load("zeebe_restart", ROLES / "zeebe/library")


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection on a port of this machine."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(timeout=5)


@pytest.mark.parametrize(("number", "encoded"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02")])
def test_varints_are_kafkas(number: int, encoded: str) -> None:
    assert protocol.uvarint(number).hex() == encoded
    assert protocol.Reader(bytes.fromhex(encoded)).uvarint() == number


def test_answer_that_ends_early_is_an_error_of_the_broker() -> None:
    with pytest.raises(protocol.BrokerError, match="ended too early"):
        protocol.Reader(b"\0\0").int32()


def test_broker_that_refuses_the_password_is_told_from_one_that_is_down() -> None:
    def refuse(connection: socket.socket) -> None:
        for body in (struct.pack(">hi", 0, 0), struct.pack(">hh", protocol.AUTHENTICATION_FAILED, -1) + b"\xff" * 4):
            request = connection.recv(4096)
            reply = request[8:12] + body
            connection.sendall(struct.pack(">i", len(reply)) + reply)

    with (
        serving(refuse) as port,
        protocol.Connection(f"127.0.0.1:{port}") as connection,
        pytest.raises(protocol.LoginRefusedError),
    ):
        connection.login_plain("broker", "wrong")


@pytest.mark.parametrize(("error", "accepted"), [(0, ["broker"]), (protocol.AUTHENTICATION_FAILED, [])])
def test_a_former_password_of_the_brokers_is_tried_under_the_name_that_follows_from_it(
    error: int, accepted: list[str]
) -> None:
    said = b""

    def answer(connection: socket.socket) -> None:
        nonlocal said
        for body in (struct.pack(">hi", 0, 0), struct.pack(">hh", error, -1) + b"\xff" * 4):
            said = connection.recv(4096)
            reply = said[8:12] + body
            connection.sendall(struct.pack(">i", len(reply)) + reply)

    with serving(answer) as port:
        broker = kafka.Broker("", f"127.0.0.1:{port}", "presentPasswordOfTheTest", None)
        assert broker.still_accepted({"broker": "formerPasswordOfTheTest"}) == accepted
    name = protocol.broker_identity("formerPasswordOfTheTest")
    assert name != protocol.broker_identity("presentPasswordOfTheTest")
    assert said.endswith(f"\0{name}\0formerPasswordOfTheTest".encode())


def replicated(name: str, replicas: set[int], in_sync: set[int]) -> object:
    return restart.Partition(name, name.rpartition("-")[0], frozenset(replicas), frozenset(in_sync))


@pytest.mark.parametrize(
    ("in_sync", "required", "unsafe"),
    [({1, 2, 3}, 2, False), ({1, 2}, 2, True), ({2, 3}, 2, False), ({2}, 2, True), ({1}, 1, True), ({1, 2}, 1, False)],
)
def test_broker_may_stop_only_while_enough_others_are_in_sync(in_sync: set[int], required: int, unsafe: bool) -> None:
    view = restart.View(frozenset({1, 2, 3}), [replicated("orders-0", {1, 2, 3}, in_sync)])

    assert bool(restart.unsafe_partitions(1, view, {"orders": required})) is unsafe
    # A partition that has no replica here is none of this broker's.
    assert not restart.unsafe_partitions(4, view, {"orders": required})


def test_partition_that_misses_a_replica_is_named() -> None:
    partitions = [replicated("orders-0", {1, 2, 3}, {1, 3}), replicated("orders-1", {1, 2, 3}, {1, 2, 3})]

    assert restart.under_replicated(restart.View(frozenset({1, 2, 3}), partitions)) == ["orders-0"]


def test_metadata_of_a_node_is_read() -> None:
    def text(value: str) -> bytes:
        return struct.pack(">h", len(value)) + value.encode()

    def numbers(*values: int) -> bytes:
        return struct.pack(f">i{len(values)}i", len(values), *values)

    broker = struct.pack(">i", 7) + text("10.0.0.7") + struct.pack(">i", 9094) + b"\xff\xff"
    one = struct.pack(">hii", 0, 4, 7) + numbers(7, 8) + numbers(7) + numbers()
    topic = struct.pack(">h", 0) + text("orders") + b"\0" + struct.pack(">i", 1) + one
    body = struct.pack(">ii", 0, 1) + broker + text("cluster") + struct.pack(">ii", 7, 1) + topic

    def answer(connection: socket.socket) -> None:
        reply = connection.recv(4096)[8:12] + body
        connection.sendall(struct.pack(">i", len(reply)) + reply)

    with serving(answer) as port, protocol.Connection(f"127.0.0.1:{port}") as connection:
        view = restart.describe(connection)

    assert view.brokers == {7}
    assert view.partitions == [replicated("orders-4", {7, 8}, {7})]


def test_broker_is_not_restarted_while_another_does_not_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "commands"
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{commands}\n')
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    arguments = {
        "node_id": 1,
        "nodes": {1: "127.0.0.1:1", 2: address},
        "broker_password": "secretOfTheBroker",
        "unit": "kafka.service",
        "leader": True,
    }

    result = ModuleRun(restart, capsys, tmp_path)(arguments)

    assert result["failed"]
    assert f"node 2 at {address} does not answer" in result["msg"]
    assert "restart" not in commands.read_text()


def test_broker_that_is_down_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    arguments = {
        "host": {"client": address, "internal": address},
        "broker_password": "secretOfTheBroker",
        "users": {"clerk": "secretOfTheClerk"},
        "timeout": 0,
    }
    run = ModuleRun(kafka, capsys, tmp_path)

    result = run(arguments)

    assert result["failed"]
    assert f"Kafka at {address}" in result["msg"]
    assert "secretOf" not in run.printed
    # In check mode nothing was started: it says what it would do.
    assert run(arguments, check=True)["set"] == ["clerk"]


def partition(number: int, role: int, health: int = 0) -> bytes:
    fields = bytes([0x08, number]) + (bytes([0x10, role]) if role else b"") + (bytes([0x18, health]) if health else b"")
    return bytes([0x22, len(fields)]) + fields


def broker(node: int, *partitions: bytes) -> bytes:
    fields = (bytes([0x08, node]) if node else b"") + b"".join(partitions)
    return bytes([0x0A, len(fields)]) + fields


@pytest.mark.parametrize(
    ("message", "leaders"),
    [
        (broker(0, partition(1, 0)), {1: 0}),
        (broker(0, partition(1, 1)) + broker(1, partition(1, 0)), {1: 1}),
        (broker(0, partition(1, 1)), {}),
        (broker(0, partition(1, 0, health=1)), {}),
    ],
    ids=["leader", "leader elsewhere", "follower only", "unhealthy leader"],
)
def test_only_a_healthy_leader_counts(message: bytes, leaders: dict[int, int]) -> None:
    assert zeebe.topology(message + bytes([0x18, 1])).leaders == leaders


def test_topology_is_read_from_a_gateway_that_talks_as_it_may() -> None:
    message = broker(0, partition(1, 0)) + bytes([0x18, 1]) + b"\x2a\x058.0.0"

    def gateway(connection: socket.socket) -> None:
        connection.recv(4096)
        body = struct.pack(">BI", 0, len(message)) + message
        connection.sendall(
            zeebe.frame(zeebe.SETTINGS, 0, 0)
            + zeebe.frame(zeebe.PING, 0, 0, bytes(8))
            + zeebe.frame(zeebe.HEADERS, zeebe.END_HEADERS, 1, b"\x88")
            # A message may come in pieces.
            + zeebe.frame(zeebe.DATA, 0, 1, body[:7])
            + zeebe.frame(zeebe.DATA, 0, 1, body[7:])
            + zeebe.frame(zeebe.HEADERS, zeebe.END_HEADERS | zeebe.END_STREAM, 1, b"")
        )
        connection.recv(4096)

    with serving(gateway) as port:
        answer = zeebe.topology(zeebe.call("127.0.0.1", port))

    assert answer == zeebe.Topology({0: frozenset({1})}, {1: 0}, 1, "8.0.0")


def cluster(**replicas: set[int]) -> object:
    """Brokers by name (`b0`) with the partitions of which they have a healthy replica; the first broker of each leads it."""
    by_node = {int(name[1:]): frozenset(partitions) for name, partitions in replicas.items()}
    leaders = {partition: node for node in sorted(by_node, reverse=True) for partition in by_node[node]}
    return zeebe.Topology(by_node, leaders, 2, "8.0.0")


@pytest.mark.parametrize(
    ("seen", "unsafe"),
    [
        (cluster(b0={1, 2}, b1={1, 2}, b2={1, 2}), []),
        # Nobody else has to be missing: one replica that is not healthy is enough.
        (cluster(b0={1, 2}, b1={1, 2}, b2={1}), [2]),
        (cluster(b0={1, 2}, b1={1, 2}), [1, 2]),
    ],
    ids=["whole", "unhealthy replica", "broker away"],
)
def test_engine_broker_may_stop_only_while_every_partition_keeps_a_majority(seen: object, unsafe: list[int]) -> None:
    problems = zeebe_restart.unsafe_partitions(0, seen, partitions=2, replication_factor=3)

    assert [problem.split()[1] for problem in problems] == [str(partition) for partition in unsafe]


def test_restart_waits_for_every_replica() -> None:
    def missing(seen: object) -> str:
        return str(zeebe_restart.missing(seen, brokers=3, partitions=2, replication_factor=3))

    assert missing(cluster(b0={1, 2}, b1={1, 2})) == "2 of 3 brokers are there"
    assert missing(cluster(b0={1, 2}, b1={1, 2}, b2={1})).startswith("partition 2 has 2 of 3 healthy replicas")
    assert not missing(cluster(b0={1, 2}, b1={1, 2}, b2={1, 2}))


def test_gateway_that_answers_without_a_topology_is_not_healthy() -> None:
    def gateway(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(zeebe.frame(zeebe.HEADERS, zeebe.END_HEADERS | zeebe.END_STREAM, 1, b""))

    with serving(gateway) as port, pytest.raises(zeebe.GatewayError, match="without a topology"):
        zeebe.call("127.0.0.1", port)
