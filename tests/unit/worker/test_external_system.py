"""Every way an external system can answer, by what it proves: done, refused, certainly not done, or unknown."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.adapters.http.external_system import HttpExternalSystem
from app.application.ports import CallDone, CallNotDone, CallRefused, CallUnknown
from app.contracts.loader import load_external_systems

Handler = Callable[[httpx.Request], httpx.Response]


SYSTEMS = load_external_systems()


def system_that(
    handler: Callable[[httpx.Request], Any], name: str = "inventory", timeout: timedelta = timedelta(seconds=1)
) -> HttpExternalSystem:
    return HttpExternalSystem(
        httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False),
        name,
        SYSTEMS[name],
        base_url="http://there",
        token="secret",
        callback_url="http://here",
        timeout=lambda: timeout,
    )


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
        (answering(200, b'{"id": "r", "state": "done"}'), CallDone),
        (answering(200, b'{"id": "r", "state": "accepted"}'), CallUnknown),
        (answering(202, b'{"id": "r"}'), CallUnknown),
        (answering(201, b'{"id": "r"}', "text/html"), CallUnknown),
        (answering(201, b'{"id": "r"}', "application/hal+json; charset=utf-8"), CallDone),
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
    assert type(await system_that(handler).call("e:acme:o:s:1", {})) is outcome


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [
        (answering(200, b'{"items": [{"id": "r"}]}'), CallDone),
        (answering(200, b'{"items": [{"id": "r", "state": "accepted"}]}'), CallUnknown),
        (answering(200, b'{"items": [{"id": "r", "state": "failed"}]}'), CallNotDone),
        (answering(200, b'{"items": []}'), CallNotDone),
        (answering(200, b'{"items": []}', "text/plain"), CallUnknown),
        (answering(429), CallUnknown),
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


class Trickle(httpx.AsyncByteStream):
    """An answer that comes a byte at a time, so that no wait for the next one is ever long, and takes two seconds."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = b'{"items": [{"id": "r"}], "id": "r"}'
        for place in range(len(content)):
            await asyncio.sleep(2 / len(content))
            yield content[place : place + 1]


async def test_an_answer_that_trickles_is_cut_at_the_whole_time() -> None:
    def trickle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Trickle(), headers={"Content-Type": "application/json"})

    system = system_that(trickle, timeout=timedelta(seconds=0.3))
    before = time.monotonic()

    called, found = await asyncio.gather(system.call("e:acme:o:s:1", {}), system.find("e:acme:o:s:1"))

    assert time.monotonic() - before < 1
    assert (type(called), type(found)) == (CallUnknown, CallUnknown)


DEEP = b'{"id": ' + b"[" * 100_000


@pytest.mark.parametrize("status", [200, 201, 202, 400, 409, 429, 500])
async def test_an_answer_that_nobody_can_read_to_its_bottom_is_no_answer(status: int) -> None:
    system = system_that(answering(status, DEEP))

    assert (await system.call("e:acme:o:s:1", {})).status == status
    assert type(await system.find("key")) is CallUnknown


async def test_what_a_system_says_can_be_kept_by_the_database() -> None:
    done = await system_that(answering(201, b'{"id": "a\\u0000b\\ud800"}')).call("e:acme:o:s:1", {})
    refused = await system_that(answering(422, b'{"title": "no\\u0000 \\udfff"}')).call("e:acme:o:s:1", {})
    nothing = await system_that(answering(201, b'{"id": "\\u0000"}')).call("e:acme:o:s:1", {})
    failed = await system_that(failing(httpx.ReadError("\0"))).call("e:acme:o:s:1", {})
    listed = await system_that(answering(200, b'{"items": [{"id": "a\\u0000b"}]}')).find("key")

    assert done == CallDone("ab?", 201)
    assert refused == CallRefused("inventory: 422 no ?", 422)
    assert nothing == CallUnknown("inventory: unreadable answer", 201)
    assert failed == CallUnknown("inventory: ReadError ")
    assert listed == CallDone("ab", 200)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({}, 1), ({"Retry-After": "7"}, 7), ({"Retry-After": "3600"}, 20), ({"Retry-After": "soon"}, 1)],
)
async def test_the_wish_for_a_pause_is_heard_within_what_is_declared(header: dict[str, str], seconds: int) -> None:
    system = system_that(lambda _: httpx.Response(429, headers=header))

    called, found = await system.call("e:acme:o:s:1", {}), await system.find("key")

    assert called == CallNotDone("inventory: 429", 429, timedelta(seconds=seconds))
    assert found == CallUnknown("inventory: 429", 429, timedelta(seconds=seconds))


async def test_accepted_work_says_when_to_ask_again() -> None:
    outcome = await system_that(answering(202, b'{"id": "r"}'), "partner").call("e:acme:o:s:1", {})

    assert isinstance(outcome, CallUnknown)
    assert outcome.retry_after == SYSTEMS["partner"].retry.shortest_pause


@pytest.mark.parametrize("name", sorted(SYSTEMS))
async def test_each_system_is_called_as_declared(name: str) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"items": []})

    system, policy = system_that(handler, name), SYSTEMS[name]
    await system.call("e:acme:o:s:1", {})
    await system.find("key-1")

    called, asked = seen
    assert called.url.path == asked.url.path == f"/{policy.endpoint.collection}"
    assert called.headers[policy.idempotency_key.header] == "e:acme:o:s:1"
    assert asked.url.params[policy.idempotency_key.query] == "key-1"
    expected = f"http://here/v1/callbacks/{name}/acme" if policy.callback.url == "per-call" else None
    assert called.headers.get("Callback-Url") == expected
