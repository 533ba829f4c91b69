"""The edge takes each tenant's requests to one side, by the token alone, and nobody goes without an answer when a side is down."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from app.domain.canary import Cohort, Flow
from app.domain.values import TenantId
from tests.support.ansible_modules import LIBRARY, ModuleRun, load
from tests.support.edge_proxy import Edge, edge, settings

CANARY, CONTROL = {"api-2"}, {"api-1", "api-3"}
PERCENT = 30
PATIENCE_SECONDS = 15


def token(tenant: Any, **claims: Any) -> str:
    return jwt.encode({"sub": "erika", "tenant": tenant, **claims}, "a key of nobody that is long enough", "HS256")


def answering(running: Edge, tenant: str | None, requests: int = 12) -> set[str]:
    given = None if tenant is None else token(tenant)
    return {running.ask(token=given)[1] for _ in range(requests)}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def held_request(running: Edge) -> Iterator[list[tuple[int, str]]]:
    """Have a request of the canary's tenant under way; its answer, which ends with the block, is handed out."""
    held: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: held.append(running.ask("/v1/held", token("acme"))))
    asking.start()
    wait_until(lambda: _sessions(running, "api-canary", "api-2") == 1)
    yield held
    running.servers["api-2"].release.set()
    asking.join(10)


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Edge]:
    """An edge with a canary of two tenants by their names."""
    with edge(tmp_path, edge_canary_servers=["api-2"], edge_canary_tenants=["acme", "globex-mobile"]) as running:
        yield running


def test_a_tenant_of_the_canary_meets_its_servers_alone_and_everybody_else_the_others(named: Edge) -> None:
    assert [answering(named, tenant) for tenant in ("acme", "globex-mobile")] == [CANARY, CANARY]
    assert [answering(named, tenant) for tenant in ("initech", "acm", "acme-2", "Acme")] == [CONTROL] * 4
    assert named.ask("/openapi.json", token("acme")) == (200, "api-2")


def test_what_tells_no_tenant_goes_to_the_others_and_hurts_nothing(named: Edge) -> None:
    part = base64.urlsafe_b64encode(json.dumps({"tenant": "acme"}).encode()).decode().rstrip("=")
    strange = [
        "",
        "acme",
        "a.b.c",
        ".",
        f".{part}.",
        "x" * 4000,
        token(None),
        token(["acme"]),
        token({"acme": 1}),
        token(7),
    ]

    assert answering(named, None) == CONTROL
    statuses = [named.ask(token=each) for each in strange]
    assert {status for status, _ in statuses} == {200}
    # A token without a head is none to the servers, whoever the edge takes it for.
    assert {name for text, (_, name) in zip(strange, statuses, strict=True) if text != f".{part}."} <= CONTROL


def test_a_share_of_tenants_is_the_one_that_the_judge_looks_at(tmp_path: Path) -> None:
    cohort = Cohort.parse(f"percent:{PERCENT}")
    tenants = [f"tenant-{number}" for number in range(80)] + ["acme", "globex-mobile", "a-b-c", "z" * 63]
    with edge(tmp_path, edge_canary_servers=["api-2"], edge_canary_percent=PERCENT) as running:
        found = {tenant: answering(running, tenant, 3) <= CANARY for tenant in tenants}

    assert found == {tenant: cohort.holds(Flow(TenantId(tenant))) for tenant in tenants}
    assert 10 < sum(found.values()) < 45


def test_without_a_server_of_the_canary_its_tenants_meet_the_others_until_it_is_back(named: Edge) -> None:
    named.servers["api-2"].is_ready = False
    wait_until(lambda: named.ask(token=token("acme"))[1] in CONTROL)
    assert answering(named, "acme") == CONTROL

    named.servers["api-2"].is_ready = True
    wait_until(lambda: answering(named, "acme") == CANARY)


def test_a_server_that_is_marked_down_ends_the_request_that_it_has(named: Edge) -> None:
    with held_request(named) as held:
        named.servers["api-2"].is_ready = False
        wait_until(lambda: answering(named, "acme") <= CONTROL)

    assert held == [(200, "api-2")]


def test_without_any_other_server_the_canary_serves_everybody(named: Edge) -> None:
    for name in CONTROL:
        named.servers[name].is_ready = False

    wait_until(lambda: named.ask(token=token("initech")) == (200, "api-2"))
    assert answering(named, "initech") == CANARY


def test_a_server_that_is_drained_is_left_by_its_tenants_and_waited_for_until_its_last_answer(
    named: Edge, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sys.modules["ansible.module_utils.proxy_socket"] = load("proxy_socket", LIBRARY.parent / "module_utils")
    module = ModuleRun(load("haproxy_server"), capsys, tmp_path)
    arguments = {"backend": "api", "server": "api-2", "socket": str(named.socket), "timeout": 10}
    with held_request(named) as held:
        ending = threading.Timer(1.0, named.servers["api-2"].release.set)
        ending.start()
        drained = module({**arguments, "state": "drained"})

    assert held == [(200, "api-2")]
    assert (drained["unanswered"], drained["waited"] >= 0.9) == (0, True)
    assert answering(named, "acme") == CONTROL
    assert module({**arguments, "state": "ready"})["changed"]
    wait_until(lambda: answering(named, "acme") == CANARY)


def _sessions(running: Edge, backend: str, server: str) -> int:
    rows = [line.split(",") for line in running.command("show stat").splitlines()]
    return next(int(row[4]) for row in rows if row[:2] == [backend, server])


def test_without_a_canary_everybody_is_served_by_all(tmp_path: Path) -> None:
    with edge(tmp_path) as running:
        assert answering(running, "acme", 30) == CANARY | CONTROL


def test_without_a_canary_the_settings_have_nothing_of_it() -> None:
    text = settings(
        edge_address="192.0.2.1", edge_own_address="192.0.2.2", edge_api_servers={"api-1": "192.0.2.3"}, edge_api_port=1,
        edge_callback_servers={"callback-1": "192.0.2.4"}, edge_callback_port=2, edge_canary_tenants=["acme"],
    )  # fmt: skip

    assert "canary" not in text
    assert "jwt" not in text
