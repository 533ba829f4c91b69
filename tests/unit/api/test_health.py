from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest

from app.entrypoints.api import health
from app.runtime.clock import SystemClock
from app.runtime.health import Status
from tests.unit.api.conftest import Client, World
from tests.unit.api.test_quote_to_order import assert_shape


async def test_liveness_asks_nobody(client: Client, world: World) -> None:
    world.statuses = dict.fromkeys(world.statuses, Status.DOWN)

    assert (await client.request("GET", "/health/live", token=None)).json == {"status": "live"}


async def test_readiness_falls_with_the_database_only(client: Client, world: World) -> None:
    for name, expected in (("redis", 200), ("kafka", 200), ("camunda", 200), ("postgresql", 503)):
        world.statuses[name] = Status.DOWN
        answer = await client.request("GET", "/health/ready", token=None)
        assert answer.status_code == expected, name
    assert answer.json["code"] == "not-ready"


async def test_a_process_is_not_ready_before_it_can_judge_a_token_and_stays_so_without_the_issuer(
    client: Client, world: World
) -> None:
    world.issuer.answer = httpx.Response(500)
    answer = await client.request("GET", "/health/ready", token=None)
    assert (answer.status_code, answer.json["code"]) == (503, "not-ready")

    world.issuer.answer = None
    world.clock.advance(timedelta(minutes=1))
    assert (await client.request("GET", "/health/ready", token=None)).status_code == 200

    world.issuer.answer = httpx.Response(500)
    world.clock.advance(timedelta(minutes=1))
    assert (await client.request("GET", "/health/ready", token=None)).status_code == 200


async def test_startup_is_told_once_it_is_over(client: Client, world: World) -> None:
    assert (await client.request("GET", "/health/startup", token=None)).status_code == 200
    world.has_started = False
    assert (await client.request("GET", "/health/startup", token=None)).status_code == 503


@pytest.mark.parametrize("name", ["redis", "kafka", "camunda"])
async def test_diagnostics_name_the_lost_ability(client: Client, world: World, name: str) -> None:
    world.statuses[name] = Status.DOWN

    answer = await client.request("GET", "/health/diagnostics", token=None, internal=True)

    lost = {each["name"]: each.get("lostAbility") for each in answer.json["dependencies"]}
    assert answer.json["status"] == "degraded"
    assert {each for each, ability in lost.items() if ability} == {name}
    assert_shape("Diagnostics", answer.json)


async def test_each_listener_has_its_own_routes(client: Client) -> None:
    for path, public, internal in (
        ("/metrics", 404, 200),
        ("/health/diagnostics", 404, 200),
        ("/health/live", 200, 200),
        ("/health/ready", 200, 200),
        ("/openapi.json", 200, 404),
        ("/v1/catalog/offerings", 200, 404),
    ):
        assert (await client.request("GET", path)).status_code == public, path
        assert (await client.request("GET", path, internal=True)).status_code == internal, path


async def test_requests_are_counted_by_route_and_not_by_path(client: Client, world: World) -> None:
    for number in range(3):
        await client.request("GET", f"/v1/quotes/{number:032x}")
    await client.request("GET", "/somewhere/else")

    def counted(route: str) -> float | None:
        return world.registry.get_sample_value(
            "cpq_api_requests_total", {"method": "GET", "route": route, "status": "404"}
        )

    assert counted("/v1/quotes/{quote_id:uuid}") == 3
    assert counted("unmatched") == 1


async def test_a_question_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.01)

    async def never() -> None:
        await asyncio.Event().wait()

    status = await health.answers(SystemClock(), "redis", never, "something")

    assert status.status is Status.DOWN


async def test_a_failing_question_tells_its_kind_and_not_its_text() -> None:
    async def failing() -> None:
        raise ConnectionRefusedError("password=canary")

    status = await health.answers(SystemClock(), "postgresql", failing, "everything", required=True)

    assert (status.status, status.detail) == (Status.DOWN, "ConnectionRefusedError")
