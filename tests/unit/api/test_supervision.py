from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.entrypoints.api.supervision import Supervisor
from app.runtime.notify import Notifier
from tests.support.builders import SetClock

INTERVAL = timedelta(seconds=10)  # a third of the 30 s below


class Pipe:
    """Stands for the workers' reports."""

    def __init__(self) -> None:
        self.reported: set[int] = set()

    def report(self) -> None:
        raise AssertionError("only workers report")

    def collect(self) -> set[int]:
        reported, self.reported = self.reported, set()
        return reported


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(0)

    def told(self) -> list[str]:
        messages: list[str] = []
        while True:
            try:
                messages += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return [message for message in messages if not message.startswith("STATUS")]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def supervisor(manager: Manager, pipe: Pipe, clock: SetClock) -> Supervisor:
    clock.advance(timedelta(hours=1))
    return Supervisor(Notifier(manager.address, 30_000_000), pipe, clock)  # type: ignore[arg-type]


def serve(supervisor: Supervisor, pipe: Pipe) -> None:
    pipe.reported = {1, 2}
    supervisor.watch([1, 2], 2)


def test_ready_waits_for_every_worker(supervisor: Supervisor, pipe: Pipe, manager: Manager) -> None:
    supervisor.watch([1], 2)
    pipe.reported = {1}
    supervisor.watch([1, 2], 2)
    assert manager.told() == []

    pipe.reported = {2}
    supervisor.watch([1, 2], 2)
    assert manager.told() == ["READY=1"]


def test_ready_forgets_a_worker_that_died_before_it(supervisor: Supervisor, pipe: Pipe, manager: Manager) -> None:
    pipe.reported = {1}
    supervisor.watch([1, 2], 2)
    pipe.reported = {2}
    supervisor.watch([2, 3], 2)

    assert manager.told() == []


def test_the_watchdog_is_fed_while_all_report(
    supervisor: Supervisor, pipe: Pipe, clock: SetClock, manager: Manager
) -> None:
    serve(supervisor, pipe)
    manager.told()
    for _ in range(6):
        clock.advance(INTERVAL / 2)
        serve(supervisor, pipe)

    assert manager.told() == ["WATCHDOG=1"] * 6


def test_one_silent_worker_starves_the_watchdog(
    supervisor: Supervisor, pipe: Pipe, clock: SetClock, manager: Manager
) -> None:
    serve(supervisor, pipe)
    clock.advance(INTERVAL)
    serve(supervisor, pipe)
    manager.told()
    for _ in range(6):
        clock.advance(INTERVAL * 0.6)
        pipe.reported = {1}
        supervisor.watch([1, 2], 2)

    assert manager.told() == ["WATCHDOG=1"]  # in the first pass the silence was still within the interval


def test_a_replacement_has_an_interval_to_start(
    supervisor: Supervisor, pipe: Pipe, clock: SetClock, manager: Manager
) -> None:
    serve(supervisor, pipe)
    clock.advance(INTERVAL)
    serve(supervisor, pipe)
    manager.told()

    clock.advance(INTERVAL)
    pipe.reported = {1}
    supervisor.watch([1, 3], 2)

    assert manager.told() == ["WATCHDOG=1"]
    assert supervisor.is_ready
