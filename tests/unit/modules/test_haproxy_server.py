"""Whether a server may leave a proxy's rotation, asked of a socket that answers as the proxy does."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import LIBRARY, ModuleRun, load

proxy_socket = load("proxy_socket", LIBRARY.parent / "module_utils")
sys.modules["ansible.module_utils.proxy_socket"] = proxy_socket
MODULE = load("haproxy_server")
COLUMNS = "# pxname,svname,scur,qcur,status,check_status,last_chk"
STATES = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight"


class Proxy:
    """Answers `show stat` and `show servers state` from its servers' states and does what `set server` says.

    As in HAProxy, the status of a server that is down does not say whether it was told to drain.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.states = {"api-1": "UP", "api-2": "UP"}
        self.drained: set[str] = set()
        self.by_part = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                command = connection.recv(1000).decode().split()
                connection.sendall(self.answer(command).encode())

    def answer(self, command: list[str]) -> str:
        if command[:2] == ["set", "server"]:
            change = self.drained.add if command[4] == "drain" else self.drained.discard
            change(command[2].partition("/")[2])
            return "\n"
        if command == ["show", "servers", "state"]:
            rows = [f"4 api 1 {name} 198.51.100.1 2 {8 * (name in self.drained)} 1" for name in self.states]
            return "\n".join(["1", STATES, *rows, "5 callback 1 cb-1 198.51.100.2 2 0 1", "\n"])
        rows = [f"api,{name},0,0,{self.status(name)},{self.check(name)},said" for name in self.states]
        # Servers of other backends do not count.
        return "\n".join(
            [
                COLUMNS,
                "api,FRONTEND,0,0,OPEN,,",
                *rows,
                "api,BACKEND,0,0,UP,,",
                f"api-canary,api-1,{self.by_part},0,UP,,",
                "api-canary,api-2,7,0,UP,,",
                "callback,cb-1,0,0,UP,L7OK,",
                "callback,api-1,9,0,UP,L7OK,",
            ]
        )

    def status(self, name: str) -> str:
        return "DRAIN" if name in self.drained and self.states[name] == "UP" else self.states[name]

    def check(self, name: str) -> str:
        return "L7OK" if self.states[name] == "UP" else "L4CON"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path / "proxy.sock")
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    yield proxy
    proxy.close()
    thread.join()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> ModuleRun:
    return ModuleRun(MODULE, capsys, tmp_path)


def arguments(proxy: Proxy, state: str, timeout: int = 5) -> dict[str, Any]:
    return {"backend": "api", "server": "api-1", "state": state, "socket": str(proxy.path), "timeout": timeout}


def test_a_server_leaves_and_comes_back(proxy: Proxy, run: ModuleRun) -> None:
    out = run(arguments(proxy, "drained"))
    assert (out["changed"], out["unanswered"], proxy.drained) == (True, 0, {"api-1"})

    back = run(arguments(proxy, "ready"))
    assert (back["changed"], proxy.drained) == (True, set())


def test_requests_by_a_part_of_the_backend_are_waited_for_too(proxy: Proxy, run: ModuleRun) -> None:
    proxy.by_part = 3

    assert run(arguments(proxy, "drained", timeout=0))["unanswered"] == 3


def test_the_last_server_that_takes_requests_stays(proxy: Proxy, run: ModuleRun) -> None:
    proxy.states["api-2"] = "DOWN"

    said = run(arguments(proxy, "drained", timeout=0))

    assert said["failed"]
    assert said["msg"].startswith("api-1 is the last server of api that takes requests")
    assert proxy.drained == set()


def test_it_waits_for_another_one(proxy: Proxy, run: ModuleRun) -> None:
    proxy.drained = {"api-2"}
    timer = threading.Timer(0.5, proxy.drained.discard, ["api-2"])
    timer.start()

    said = run(arguments(proxy, "drained"))

    assert (said["changed"], proxy.drained) == (True, {"api-1"})


@pytest.mark.parametrize("states", [{"api-1": "UP"}, {"api-1": "DOWN", "api-2": "DOWN"}])
def test_where_nobody_could_take_over_anyhow_it_may_go(proxy: Proxy, run: ModuleRun, states: dict[str, str]) -> None:
    """A backend of one server, and one of which nothing runs yet."""
    proxy.states = states

    assert run(arguments(proxy, "drained"))["changed"]
    assert proxy.drained == {"api-1"}


def test_one_that_was_down_when_it_was_to_come_back_comes_back(proxy: Proxy, run: ModuleRun) -> None:
    """It was drained before its first start; the proxy finds it healthy only while it is waited for."""
    proxy.states, proxy.drained = {"api-1": "DOWN", "api-2": "UP"}, {"api-1"}
    timer = threading.Timer(0.5, proxy.states.__setitem__, ["api-1", "UP"])
    timer.start()

    back = run(arguments(proxy, "ready"))

    assert (back["changed"], proxy.drained) == (True, set())


def test_who_was_drained_is_known_also_of_one_that_is_down(proxy: Proxy) -> None:
    proxy.states, proxy.drained = {"api-1": "DOWN", "api-2": "UP"}, {"api-1"}

    assert proxy_socket.drained(str(proxy.path)) == [("api", "api-1")]


def test_a_server_that_the_proxy_does_not_know_is_an_error(proxy: Proxy, run: ModuleRun) -> None:
    said = run({**arguments(proxy, "drained"), "server": "api-9"})

    assert "knows no server api/api-9" in said["msg"]
