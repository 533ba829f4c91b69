"""Nothing is sent to an endpoint that has not proved its environment, not even our credential."""

from __future__ import annotations

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
