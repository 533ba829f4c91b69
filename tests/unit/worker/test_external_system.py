"""Every way an external system can answer, by what it proves: done, refused, certainly not done, or unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from app.adapters.http.billing import billing
from app.adapters.http.external_system import HttpExternalSystem
from app.adapters.http.inventory import inventory
from app.adapters.http.provisioning import provisioning
from app.application.ports import CallDone, CallNotDone, CallRefused, CallUnknown

Handler = Callable[[httpx.Request], httpx.Response]


def system_that(handler: Handler) -> HttpExternalSystem:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False)
    return HttpExternalSystem(client, "inventory", "http://there/v1/reservations", "secret", timedelta(seconds=1))


def answering(status: int, content: bytes = b"", content_type: str = "application/json") -> Handler:
    return lambda _: httpx.Response(status, content=content, headers={"Content-Type": content_type})


def failing(error: Exception) -> Handler:
    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    return handler


async def test_a_call_carries_key_token_and_request() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json={"id": "inventory-1"})

    outcome = await system_that(handler).call("key-1", {"orderId": "1"})

    assert outcome == CallDone("inventory-1", 201)
    assert seen[0].headers["Idempotency-Key"] == "key-1"
    assert seen[0].headers["Authorization"] == "Bearer secret"
    assert json.loads(seen[0].content) == {"orderId": "1"}


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [
        (answering(200, b'{"id": "r"}'), CallDone),
        (answering(201, b'{"id": "'), CallUnknown),
        (answering(201, b"{}"), CallUnknown),
        (answering(200, b"<html>fine</html>", "text/html"), CallUnknown),
        (answering(204), CallUnknown),
        (answering(302), CallUnknown),
        (answering(400), CallRefused),
        (answering(409), CallRefused),
        (answering(422), CallRefused),
        (answering(401), CallNotDone),
        (answering(403), CallNotDone),
        (answering(404), CallNotDone),
        (answering(429), CallNotDone),
        (answering(408), CallUnknown),
        (answering(500), CallUnknown),
        (answering(502), CallUnknown),
        (answering(503), CallUnknown),
        (failing(httpx.ConnectError("refused")), CallNotDone),
        (failing(httpx.ConnectTimeout("no connection")), CallNotDone),
        (failing(httpx.PoolTimeout("no connection")), CallNotDone),
        (failing(httpx.ReadTimeout("late")), CallUnknown),
        (failing(httpx.WriteError("reset")), CallUnknown),
        (failing(httpx.RemoteProtocolError("closed")), CallUnknown),
    ],
)
async def test_an_answer_to_a_call_proves_no_more_than_it_says(handler: Handler, outcome: type[object]) -> None:
    assert type(await system_that(handler).call("key", {})) is outcome


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [
        (answering(200, b'{"items": [{"id": "r"}]}'), CallDone),
        (answering(200, b'{"items": []}'), CallNotDone),
        (answering(200, b'{"items": [{}]}'), CallUnknown),
        (answering(200, b"[]"), CallUnknown),
        (answering(200, b""), CallUnknown),
        (answering(404), CallUnknown),
        (answering(503), CallUnknown),
        (failing(httpx.ConnectError("refused")), CallUnknown),
        (failing(httpx.ReadTimeout("late")), CallUnknown),
    ],
)
async def test_only_an_empty_list_proves_that_nothing_was_done(handler: Handler, outcome: type[object]) -> None:
    assert type(await system_that(handler).find("key")) is outcome


async def test_an_answer_that_trickles_is_cut_at_the_whole_time() -> None:
    async def trickle(_: httpx.Request) -> httpx.Response:
        raise TimeoutError  # what asyncio.timeout raises around the call

    client = httpx.AsyncClient(transport=httpx.MockTransport(trickle), trust_env=False)
    system = HttpExternalSystem(client, "inventory", "http://there", "secret", timedelta(seconds=1))

    assert type(await system.call("key", {})) is CallUnknown


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (inventory, "/inventory/v1/reservations"),
        (provisioning, "/provisioning/v1/activations"),
        (billing, "/billing/v1/subscriptions"),
    ],
)
async def test_each_system_has_its_collection(make: Callable[..., HttpExternalSystem], path: str) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return httpx.Response(200, json={"items": []})

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False)
    await make(client, f"http://there/{path.split('/')[1]}", "secret", timedelta(seconds=1)).find("key")

    assert seen == [path]
