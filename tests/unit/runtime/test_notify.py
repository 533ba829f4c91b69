"""Notifications to a service manager that does not read: a working loop goes on, READY arrives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.runtime.notify import Notifier

PATIENCE_SECONDS = 10


@pytest.fixture
def full_socket(tmp_path: Path) -> Iterator[socket.socket]:
    """The notify socket of a manager that stopped reading: not one more message fits."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        other.settimeout(0.1)
        with suppress(TimeoutError):
            while True:
                other.sendto(b"somebody else's", str(tmp_path / "notify"))
        yield manager


@pytest.fixture
def notifier(full_socket: socket.socket) -> Notifier:
    return Notifier(full_socket.getsockname())


@pytest.mark.parametrize("message", ["watchdog", "status", "stopping"])
def test_progress_is_not_held_up_by_a_full_socket(notifier: Notifier, message: str) -> None:
    arguments = ["reading"] if message == "status" else []
    sending = threading.Thread(target=getattr(notifier, message), args=arguments, daemon=True)

    sending.start()
    sending.join(PATIENCE_SECONDS)

    assert not sending.is_alive()


def test_ready_waits_until_it_fits(notifier: Notifier, full_socket: socket.socket) -> None:
    sending = threading.Thread(target=notifier.ready, args=["working"], daemon=True)
    sending.start()
    sending.join(0.2)
    assert sending.is_alive()

    message = b""
    while not message.startswith(b"READY=1"):
        message = full_socket.recv(4096)

    assert message == b"READY=1\nSTATUS=working"
    sending.join(PATIENCE_SECONDS)
    assert not sending.is_alive()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The notify socket of a manager that reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "reading"))
        manager.settimeout(PATIENCE_SECONDS)
        yield manager


def test_a_listener_is_kept_and_the_next_process_gets_it_with_who_waits_there(manager: socket.socket) -> None:
    first = Notifier(manager.getsockname()).listener("http", "127.0.0.1", 0, backlog=8)
    address = first.getsockname()
    message, descriptors, _, _ = socket.recv_fds(manager, 1024, 1)
    first.close()
    waiting = socket.create_connection(address)

    kept = {"http": socket.socket(fileno=descriptors[0])}
    again = Notifier(manager.getsockname(), kept=kept).listener("http", *address, backlog=8)

    assert message == b"FDSTORE=1\nFDNAME=http"
    accepted, who = again.accept()
    assert who == waiting.getsockname()
    accepted.close()
    waiting.close()
    again.close()


def test_a_listener_of_another_address_is_given_up(manager: socket.socket) -> None:
    kept = {"http": socket.create_server(("127.0.0.1", 0))}
    other = socket.create_server(("127.0.0.1", 0))
    address = other.getsockname()
    other.close()

    made = Notifier(manager.getsockname(), kept=kept).listener("http", *address, backlog=8)

    assert made.getsockname() == address
    assert manager.recv(1024) == b"FDSTOREREMOVE=1\nFDNAME=http"
    assert socket.recv_fds(manager, 1024, 1)[0] == b"FDSTORE=1\nFDNAME=http"
    made.close()


def test_descriptors_of_another_process_are_not_taken(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "LISTEN_PID": "1"}

    made = Notifier.from_environ(environ).listener("http", "127.0.0.1", 0, backlog=8)

    assert made.fileno() > 0
    made.close()
