"""A client that asks too often is refused with the time to wait; what needs no token is never counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import falcon.testing
import pytest

from app.application.rate_limiting import LocalRateLimiter
from app.contracts.loader import RequestLimit
from app.domain.values import TenantId
from app.entrypoints.api.app import create_app
from tests.support.builders import SetClock
from tests.unit.api.conftest import World

TENANT = TenantId("acme")


def limit(requests: int = 60, burst: int = 3) -> RequestLimit:
    document = {"requests": requests, "per": "PT1M", "burst": burst, "without_redis": "closed"}
    return RequestLimit.model_validate(document)


async def test_a_burst_goes_through_and_then_one_per_interval() -> None:
    clock = SetClock()
    limiter = LocalRateLimiter({"read": limit()}, 1, clock)

    verdicts = [await limiter.take(TENANT, "c", "read") for _ in range(5)]
    assert [verdict.is_allowed for verdict in verdicts] == [True, True, True, False, False]
    assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0, 0]
    assert verdicts[-1].retry_after == timedelta(seconds=1)

    clock.advance(timedelta(seconds=1))
    assert (await limiter.take(TENANT, "c", "read")).is_allowed
    assert not (await limiter.take(TENANT, "c", "read")).is_allowed


async def test_clients_and_tenants_are_counted_apart() -> None:
    limiter = LocalRateLimiter({"read": limit(burst=1)}, 1, SetClock())

    assert (await limiter.take(TENANT, "a", "read")).is_allowed
    assert (await limiter.take(TENANT, "b", "read")).is_allowed
    assert (await limiter.take(TenantId("globex"), "a", "read")).is_allowed
    assert not (await limiter.take(TENANT, "a", "read")).is_allowed


@pytest.fixture
def limited(world: World) -> falcon.testing.TestClient:
    """The application with one read at once and ten commands."""
    limits = {"read": limit(burst=1), "command": limit(burst=10)}
    dependencies = replace(world.dependencies, limits=limits, limiter=LocalRateLimiter(limits, 1, world.clock))
    return falcon.testing.TestClient(create_app(dependencies))


def test_the_refusal_says_when_and_how_much(limited: falcon.testing.TestClient, world: World) -> None:
    headers = {"Authorization": f"Bearer {world.issuer.token()}"}
    first = limited.simulate_get("/v1/catalog/offerings", headers=headers)
    second = limited.simulate_get("/v1/catalog/offerings", headers=headers)

    assert (first.status_code, first.headers["ratelimit"]) == (200, '"read";r=0')
    assert first.headers["ratelimit-policy"] == '"read";q=60;w=60'
    assert second.status_code == 429
    assert second.json["code"] == "rate-limited"
    assert second.headers["content-type"] == "application/problem+json"
    assert (second.headers["retry-after"], second.headers["ratelimit"]) == ("1", '"read";r=0;t=1')


def test_what_needs_no_token_is_not_counted(limited: falcon.testing.TestClient) -> None:
    answers = [limited.simulate_get("/openapi.json") for _ in range(5)]

    assert {answer.status_code for answer in answers} == {200}
    assert not [answer for answer in answers if "ratelimit" in answer.headers]
