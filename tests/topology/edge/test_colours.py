"""The edge sends every request to one colour of the API's servers, changes it at once, and remembers it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.ansible_modules import LIBRARY, ModuleRun, load
from tests.support.edge_proxy import Edge, edge

BLUE, GREEN = {"api-1", "api-3"}, {"api-2"}
PATIENCE_SECONDS = 15


@pytest.fixture
def proxy_socket() -> ModuleType:
    """What modules speak to a proxy by."""
    sys.modules["ansible.module_utils.proxy_socket"] = load("proxy_socket", LIBRARY.parent / "module_utils")
    return sys.modules["ansible.module_utils.proxy_socket"]


@pytest.fixture
def coloured(tmp_path: Path) -> Iterator[Edge]:
    """An edge whose servers have two colours, and that nobody has told which one serves."""
    with _edge(tmp_path) as running:
        yield running


@pytest.fixture
def choose(
    coloured: Edge,
    proxy_socket: ModuleType,  # noqa: ARG001 (the module imports it)
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., dict[str, Any]]:
    """Run the module: `choose("green")`."""
    module = ModuleRun(load("haproxy_colour"), capsys, tmp_path)
    files = {"socket": str(coloured.socket), "file": str(tmp_path / "colours.map")}

    def run(colour: str, timeout: int = 5, *, check: bool = False) -> dict[str, Any]:
        return module({"colour": colour, "timeout": timeout, **files}, check=check)

    return run


def _edge(folder: Path) -> Any:
    colours = {**dict.fromkeys(BLUE, "blue"), **dict.fromkeys(GREEN, "green")}
    return edge(folder, edge_colours=colours, __edge_colours_map=f"opt@{folder}/colours.map")


def answering(running: Edge, requests: int = 12) -> set[str]:
    return {running.ask()[1] for _ in range(requests)}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_blue_serves_until_green_is_chosen_and_again_when_it_is(
    coloured: Edge, choose: Callable[..., dict[str, Any]]
) -> None:
    assert answering(coloured) == BLUE

    found = choose("green")
    assert (found["changed"], found["former"]) == (True, "blue")
    assert answering(coloured) == GREEN
    assert not choose("green")["changed"]

    assert choose("blue")["former"] == "green"
    assert answering(coloured) == BLUE


def test_what_is_under_way_is_answered_by_who_has_it(coloured: Edge, choose: Callable[..., dict[str, Any]]) -> None:
    held: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: held.append(coloured.ask("/v1/held")))
    asking.start()
    wait_until(lambda: any(row.split(",")[4:5] == ["1"] for row in _rows(coloured, "api-blue")))
    choose("green")
    assert answering(coloured) == GREEN
    assert held == []
    for name in BLUE:
        coloured.servers[name].release.set()
    asking.join(10)

    [(status, name)] = held
    assert (status, name in BLUE) == (200, True)


def test_no_request_fails_while_it_changes_again_and_again(
    coloured: Edge, choose: Callable[..., dict[str, Any]]
) -> None:
    statuses: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            statuses.append(coloured.ask()[0])

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for number in range(10):
        choose("blue" if number % 2 else "green")
    is_over.set()
    for thread in asking:
        thread.join(10)

    assert len(statuses) > 10
    assert {*statuses} == {200}


def test_a_colour_of_which_a_server_takes_no_requests_is_not_chosen(
    coloured: Edge, choose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    coloured.servers["api-2"].is_ready = False
    wait_until(lambda: any("DOWN" in row for row in _rows(coloured, "api-green")))

    said = choose("green", timeout=0)

    assert said["msg"] == "green gets no requests: api-2 (DOWN) of it takes none"
    assert answering(coloured) == BLUE
    assert not (tmp_path / "colours.map").exists()


def test_without_a_server_of_the_colour_that_serves_the_other_one_does(coloured: Edge) -> None:
    for name in BLUE:
        coloured.servers[name].is_ready = False

    wait_until(lambda: answering(coloured, 4) == GREEN)


def test_check_mode_says_what_it_would_do_and_does_nothing(
    coloured: Edge, choose: Callable[..., dict[str, Any]]
) -> None:
    assert choose("green", check=True)["changed"]

    assert answering(coloured) == BLUE


def test_a_proxy_that_starts_anew_remembers_it(
    proxy_socket: ModuleType, choose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    choose("green")
    again = tmp_path / "again"
    again.mkdir()
    (again / "colours.map").write_text((tmp_path / "colours.map").read_text())

    with _edge(again) as running:
        assert proxy_socket.serving(str(running.socket), str(again / "colours.map")) == "green"
        assert answering(running) == GREEN


def test_a_proxy_without_colours_is_no_place_to_choose_one(
    proxy_socket: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = ModuleRun(load("haproxy_colour"), capsys, tmp_path)
    with edge(tmp_path) as running:
        said = module({"colour": "green", "socket": str(running.socket), "file": str(tmp_path / "colours.map")})
        assert proxy_socket.serving(str(running.socket)) == ""

    assert said["msg"] == "the proxy knows no colours; bring the edge up to date (playbooks/edge.yml)"


def _rows(running: Edge, backend: str) -> list[str]:
    return [
        line
        for line in running.command("show stat").splitlines()
        if line.startswith(f"{backend},") and ",BACKEND," not in line
    ]
