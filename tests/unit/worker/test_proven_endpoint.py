"""Nothing is sent to an endpoint that has not proved its environment, not even our credential."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.adapters.http.proven_endpoint import ProvenEndpoint, wrong_endpoints
from app.adapters.memory.external_system import MemoryExternalSystem
from app.application.ports import CallDone, CallNotDone, CallUnknown
from tests.support.builders import NOON

Handler = Callable[[httpx.Request], httpx.Response]
GOOD = {"environment": "sandbox", "kind": "non-production"}


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> Any:
        return NOON

    def monotonic(self) -> float:
        return self.passed


def answering(status: int, document: Any = None, text: str = "") -> Handler:
    return lambda _: (
        httpx.Response(status, json=document) if document is not None else httpx.Response(status, text=text)
    )


def client_of(handler: Handler) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False)


def endpoint(handler: Handler, inner: MemoryExternalSystem, clock: Seconds) -> ProvenEndpoint:
    return ProvenEndpoint(
        client_of(handler), "crm", inner, base_url="http://there/crm", expected="non-production", clock=clock
    )


async def test_a_proof_is_asked_for_once_a_minute_and_without_our_credential() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=GOOD)

    inner, clock = MemoryExternalSystem(), Seconds()
    proven = endpoint(handler, inner, clock)

    assert isinstance(await proven.call("key", {}), CallDone)
    assert isinstance(await proven.find("key"), CallDone)
    assert [str(request.url) for request in seen] == ["http://there/crm/.well-known/environment"]
    assert "Authorization" not in seen[0].headers
    clock.passed = 61.0
    await proven.call("key", {})
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (answering(200, {"environment": "prod", "kind": "production"}), "'prod', which is production"),
        (answering(404), "does not prove its environment: 404"),
        (answering(200, {"environment": "prod"}), "no kind"),
        (answering(200, ["production"]), "no kind"),
        (answering(200, text="fine"), "no kind"),
        (answering(302), "302"),
        (answering(200, text="[" * 100_000), "no kind"),
        (
            answering(200, text=r'{"environment": "\u0000", "kind": "\u0000\ud800production"}'),
            "'\\x00', which is ?production",
        ),
    ],
)
async def test_without_the_proof_nothing_is_sent_and_system_and_endpoint_are_named(handler: Handler, told: str) -> None:
    inner = MemoryExternalSystem()
    proven = endpoint(handler, inner, Seconds())

    called, found = await proven.call("key", {}), await proven.find("key")

    assert isinstance(called, CallNotDone)
    assert isinstance(found, CallUnknown)
    assert called.error.startswith("crm: http://there/crm ")
    assert told in called.error
    assert called.retry_after is not None
    assert (inner.calls, inner.queries) == ([], [])
    assert len(await wrong_endpoints(client_of(handler), {"crm": "http://there/crm"}, "non-production")) == 1


async def test_an_endpoint_that_is_away_is_not_used_and_not_wrong() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    inner = MemoryExternalSystem()

    called = await endpoint(handler, inner, Seconds()).call("key", {})

    assert called == CallNotDone("crm: http://there/crm does not prove its environment: ConnectError")
    assert inner.calls == []
    assert await wrong_endpoints(client_of(handler), {"crm": "http://there/crm"}, "non-production") == []


async def test_calls_that_wait_go_by_the_answer_that_one_of_them_gets() -> None:
    asked = 0

    async def hang(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.1)
        raise httpx.ReadTimeout("late")

    clock = Seconds()
    proven = ProvenEndpoint(
        httpx.AsyncClient(transport=httpx.MockTransport(hang), trust_env=False),
        "crm",
        MemoryExternalSystem(),
        base_url="http://there/crm",
        expected="non-production",
        clock=clock,
    )

    outcomes = await asyncio.gather(*(proven.call(f"key-{number}", {}) for number in range(10)))

    assert asked == 1
    assert {type(outcome) for outcome in outcomes} == {CallNotDone}
    assert {"ReadTimeout" in outcome.error for outcome in outcomes if isinstance(outcome, CallNotDone)} == {True}
    await proven.call("later", {})
    assert asked == 2


async def test_when_the_one_that_asks_is_cancelled_the_next_one_asks() -> None:
    asked = 0

    async def handler(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.1)
        return httpx.Response(200, json=GOOD)

    inner = MemoryExternalSystem()
    proven = ProvenEndpoint(
        httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False),
        "crm",
        inner,
        base_url="http://there/crm",
        expected="non-production",
        clock=Seconds(),
    )
    first, second = (asyncio.create_task(proven.call(key, {})) for key in ("first", "second"))
    await asyncio.sleep(0.05)
    first.cancel()

    assert isinstance(await second, CallDone)
    assert (asked, inner.calls) == (2, ["second"])
