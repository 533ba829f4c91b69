"""The synthetic order is made as clients make theirs; what does not happen is named by its step, and told to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from app.adapters.http.platform_client import Account, PlatformClient
from app.entrypoints.admin.commands.smoke.run import CUSTOMER, Journey, SmokeFailedError, write_figures
from app.runtime.ids import UuidV7Ids
from tests.support.builders import SetClock

Answer = Callable[[httpx.Request], httpx.Response]
OFFERING = {"id": "fiber", "prices": [{"currency": "EUR"}]}


_ANSWERS = {
    "token": httpx.Response(200, json={"access_token": "t"}),
    "offerings": httpx.Response(200, json={"offerings": [{"id": "no-price", "prices": []}, OFFERING]}),
    "quotes": httpx.Response(201, json={"id": "q-1", "version": 1}),
    "price": httpx.Response(200, json={"id": "q-1", "version": 2}),
    "accept": httpx.Response(200, json={"id": "q-1", "version": 3}),
    "convert": httpx.Response(201, json={"id": "o-1"}),
}


class Platform:
    """Answers as the API and the issuer do; an order is completed when it was looked at so often."""

    def __init__(self, looks: int = 2, instead: Mapping[str, httpx.Response] | None = None) -> None:
        self.looks, self.instead, self.asked = looks, instead or {}, list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        name = request.url.path.rsplit("/", 1)[-1]
        if name in self.instead:
            return self.instead[name]
        if name in _ANSWERS:
            return _ANSWERS[name]
        self.looks -= 1
        return httpx.Response(200, json={"state": "inProgress" if self.looks else "completed"})


async def journey(answer: Answer, patience: float = 5.0) -> Journey:
    account = Account("http://issuer/token", "smoke", "s3cret", "release-proof")
    async with PlatformClient("http://api", account, "", UuidV7Ids(), transport=httpx.MockTransport(answer)) as client:
        made = Journey(client, SetClock(), patience, look=0)
        await made.make()
        return made


async def test_an_order_is_taken_from_token_to_completed() -> None:
    platform = Platform()
    made = await journey(platform)

    assert (made.found["quote_id"], made.found["order_id"]) == ("q-1", "o-1")
    assert [request.url.path for request in platform.asked[:6]] == [
        "/token", "/v1/catalog/offerings", "/v1/quotes", "/v1/quotes/q-1/price", "/v1/quotes/q-1/accept",
        "/v1/quotes/q-1/convert",
    ]  # fmt: skip
    assert f'"customerId":"{CUSTOMER}"' in platform.asked[2].content.decode()
    assert platform.asked[4].headers["If-Match"] == '"2"'
    assert b"tenant=release-proof" in platform.asked[0].content


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ({"token": httpx.Response(401, text="who")}, "smoke test: token: POST http://issuer/token answered 401: who"),
        ({"offerings": httpx.Response(200, json={"offerings": []})}, "smoke test: catalog: the tenant sells nothing"),
        ({"price": httpx.Response(200, text="<html>")}, "smoke test: quote: POST http://api/v1/quotes/q-1/price answered what is no"),
        ({"convert": httpx.Response(503)}, "smoke test: order: POST http://api/v1/quotes/q-1/convert answered 503"),
        ({"quotes": httpx.Response(201, json={})}, "smoke test: quote: an answer without 'id'"),
        ({"o-1": httpx.Response(200, json={"state": "failed"})}, "smoke test: fulfillment: order o-1 is failed"),
    ],
)  # fmt: skip
async def test_the_step_that_does_not_happen_is_named(instead: dict[str, httpx.Response], said: str) -> None:
    with pytest.raises(SmokeFailedError) as failure:
        await journey(Platform(instead=instead))

    assert failure.value.problems[0].startswith(said)
    assert "s3cret" not in failure.value.problems[0]


async def test_an_order_that_stands_still_is_named_with_its_state() -> None:
    with pytest.raises(SmokeFailedError) as failure:
        await journey(Platform(looks=-1), patience=-1.0)

    assert failure.value.problems[0] == "smoke test: fulfillment: order o-1 is inProgress after -1 s"


async def test_a_platform_that_is_away_is_named() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(SmokeFailedError) as failure:
        await journey(away)

    assert failure.value.problems[0] == "smoke test: token: POST http://issuer/token: ConnectError refused"


@pytest.mark.parametrize("passed", [True, False])
def test_prometheus_is_told_result_time_and_duration(tmp_path: Path, *, passed: bool) -> None:
    path = tmp_path / "smoke.prom"
    write_figures(path, passed=passed, ended=1_000.4, seconds=2.25)

    figures = dict(line.split(" ") for line in path.read_text().splitlines() if not line.startswith("#"))
    assert figures == {
        "cpq_smoke_passed": str(int(passed)),
        "cpq_smoke_finished_timestamp_seconds": "1000",
        "cpq_smoke_duration_seconds": "2.25",
    }
    assert [(one.name, one.stat().st_mode & 0o777) for one in tmp_path.iterdir()] == [("smoke.prom", 0o644)]
