"""kafka_scram_users and zeebe_topology: how they read what a broker or a gateway says, against servers of a few lines."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ansible_modules import ModuleRun, load

ROLES = Path(__file__).parents[3] / "roles"
kafka = load("kafka_scram_users", ROLES / "kafka/library")
zeebe = load("zeebe_topology", ROLES / "zeebe/library")


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
    assert kafka.uvarint(number).hex() == encoded
    assert kafka.Reader(bytes.fromhex(encoded)).uvarint() == number


def test_answer_that_ends_early_is_an_error_of_the_broker() -> None:
    with pytest.raises(kafka.BrokerError, match="ended too early"):
        kafka.Reader(b"\0\0").int32()


def test_broker_that_refuses_the_password_is_told_from_one_that_is_down() -> None:
    def refuse(connection: socket.socket) -> None:
        for body in (struct.pack(">hi", 0, 0), struct.pack(">hh", kafka.AUTHENTICATION_FAILED, -1) + b"\xff" * 4):
            request = connection.recv(4096)
            reply = request[8:12] + body
            connection.sendall(struct.pack(">i", len(reply)) + reply)

    with (
        serving(refuse) as port,
        kafka.Connection(f"127.0.0.1:{port}") as connection,
        pytest.raises(kafka.LoginRefusedError),
    ):
        connection.login_plain("broker", "wrong")


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
    assert zeebe.topology(message + bytes([0x18, 1]))["leaders"] == leaders


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

    assert answer == {"brokers": 1, "partitions": 1, "version": "8.0.0", "leaders": {1: 0}}


def test_gateway_that_answers_without_a_topology_is_not_healthy() -> None:
    def gateway(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(zeebe.frame(zeebe.HEADERS, zeebe.END_HEADERS | zeebe.END_STREAM, 1, b""))

    with serving(gateway) as port, pytest.raises(zeebe.GatewayError, match="without a topology"):
        zeebe.call("127.0.0.1", port)
