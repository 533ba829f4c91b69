"""Circuit breaker and rate limit across processes: what one learns, all go by, and what is let out is counted together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from app.adapters.postgres.external_guard import PostgresExternalCallGuard
from app.adapters.postgres.guard_states import guard_states, reset_guard
from app.adapters.postgres.pool import Connection
from app.application.ports import CallAdmitted, CallHeldBack
from app.contracts.loader import CircuitBreaker, ExternalSystemPolicy, RateLimit, load_external_systems
from tests.integration.conftest import OpenPool
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.services import Services
from tests.support.unit_process import ROOT
from tests.support.waiting import eventually

Guards = Callable[..., Awaitable[list[PostgresExternalCallGuard]]]
POLICY = load_external_systems()["partner"]


@pytest.fixture
async def guards(open_pool: OpenPool, tenant_id: str) -> Guards:
    """Guards of one system of this test's own, each over connections of its own, as processes have them."""

    async def make(count: int = 2, **changes: object) -> list[PostgresExternalCallGuard]:
        policy: ExternalSystemPolicy = POLICY.model_copy(update=changes)
        return [PostgresExternalCallGuard(await open_pool("worker"), tenant_id, policy) for _ in range(count)]

    return make


async def admitted(guard: PostgresExternalCallGuard) -> CallAdmitted:
    answer = await guard.admit()
    assert isinstance(answer, CallAdmitted), answer
    return answer


async def fail(guard: PostgresExternalCallGuard) -> str:
    return await guard.settle(await admitted(guard), "failed", error="500", hold_for=None)


def wide(**changes: object) -> CircuitBreaker:
    return POLICY.circuit_breaker.model_copy(update={"failures": 3, "unproven_calls": 10, **changes})


async def test_failures_of_all_processes_open_it_for_all_of_them(guards: Guards) -> None:
    first, second = await guards(circuit_breaker=wide())

    states = [await fail(guard) for guard in (first, second, first)]

    assert states == ["closed", "closed", "open"]
    for guard in (first, second):
        answer = await guard.admit()
        assert isinstance(answer, CallHeldBack)
        assert answer.reason == "open"
        assert timedelta(seconds=30) < answer.retry_after <= POLICY.circuit_breaker.open_for


async def test_one_call_of_all_processes_tries_and_closes_it(guards: Guards) -> None:
    made = await guards(4, circuit_breaker=wide(failures=1, open_for=timedelta(milliseconds=1)))
    await fail(made[0])
    await asyncio.sleep(0.05)

    answers = await asyncio.gather(*(guard.admit() for guard in made * 5))

    tries = [answer for answer in answers if isinstance(answer, CallAdmitted)]
    assert len(tries) == 1
    assert {answer.reason for answer in answers if isinstance(answer, CallHeldBack)} == {"probing"}
    assert await made[1].settle(tries[0], "succeeded", error=None, hold_for=None) == "closed"
    await admitted(made[2])


async def test_what_was_sent_before_it_opened_no_longer_counts(guards: Guards) -> None:
    first, second = await guards(circuit_breaker=wide(failures=1, open_for=timedelta(milliseconds=1)))
    early = await admitted(first)
    await fail(second)
    await asyncio.sleep(0.05)
    trying = await admitted(second)

    assert await first.settle(early, "succeeded", error=None, hold_for=None) == "half_open"
    assert await first.settle(early, "failed", error="late", hold_for=None) == "half_open"
    assert await second.settle(trying, "succeeded", error=None, hold_for=None) == "closed"


async def test_the_rate_of_all_processes_together_is_kept(guards: Guards) -> None:
    rate = RateLimit.model_validate({"calls": 1, "per": "PT1H", "burst": 7})
    made = await guards(4, rate_limit=rate, circuit_breaker=wide(unproven_calls=10))

    answers = await asyncio.gather(*(guard.admit() for guard in made * 10))

    assert sum(isinstance(answer, CallAdmitted) for answer in answers) == 7
    assert {answer.reason for answer in answers if isinstance(answer, CallHeldBack)} == {"rate"}


async def test_no_more_calls_are_out_without_a_success_than_declared(guards: Guards) -> None:
    made = await guards(
        4, circuit_breaker=wide(), rate_limit=RateLimit.model_validate({"calls": 100, "per": "PT1S", "burst": 100})
    )

    answers = await asyncio.gather(*(guard.admit() for guard in made * 10))

    out = [answer for answer in answers if isinstance(answer, CallAdmitted)]
    assert len(out) == 10
    await made[0].settle(out[0], "succeeded", error=None, hold_for=None)
    await admitted(made[3])


async def test_the_pause_a_system_asks_for_is_kept_by_all(guards: Guards, admin_connection: Connection) -> None:
    first, second = await guards(circuit_breaker=wide())
    answer = await admitted(first)

    await first.settle(answer, "failed", error="429", hold_for=timedelta(seconds=30))

    held = await second.admit()
    assert isinstance(held, CallHeldBack)
    assert held.reason == "held"
    system = second._admission["system"]
    assert next(state for state in await guard_states(admin_connection) if state.external_system == system).hold_until
    await reset_guard(admin_connection, str(system))
    await admitted(second)


def calls(simulator: Simulator, system: str) -> list[dict[str, str]]:
    return [request for request in simulator.ledger()["requests"] if request["system"] == system]


async def test_a_failing_system_is_left_alone_by_all_workers_and_others_go_on(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.behave("provisioning", mode="error", status=503, methods=["POST", "GET"])
    workers = [start_worker("fulfillment", APP_INSTANCE_ID=f"tests-fulfillment-{number}") for number in (1, 2)]
    start_worker("starter")
    order_ids = [await orders.place() for _ in range(16)]

    async def is_left_alone() -> bool:
        held = sum(
            worker.metric(f'cpq_external_calls_held_back_total{{reason="{reason}",system="provisioning"}}')
            for worker in workers
            for reason in ("open", "probing")
        )
        reserved = {effect["orderId"] for effect in simulator.ledger()["effects"] if effect["system"] == "inventory"}
        return held >= len(order_ids) - 10 and reserved >= {str(order_id) for order_id in order_ids}

    await eventually(is_left_alone, "every order got what the other system does, and the breaker is open")
    # Before it opens and when one call tries again; queries are counted too.
    assert len(calls(simulator, "provisioning")) <= 10 + 2
    assert [worker.metric('cpq_external_breaker_open{system="inventory"}') for worker in workers] == [0, 0]

    simulator.behave("provisioning")
    for order_id in order_ids:
        runs = await orders.row(
            "SELECT run_count FROM cpq.fulfillment_task WHERE order_id = %(order_id)s AND step = 'provision-service'",
            order_id,
        )
        assert runs["run_count"] <= 2  # what was not sent was no run


async def test_two_processes_keep_one_rate(services: Services, schema: None, simulator: Simulator) -> None:  # noqa: ARG001
    limit = POLICY.rate_limit
    arguments = [services.database_url("worker"), f"{simulator.url}/partner", simulator.credentials["partner-token"]]
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.eager_caller", "partner", *arguments,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    password = services.secret("db_worker_password").encode()
    await asyncio.gather(*(process.communicate(password) for process in processes))
    assert [process.returncode for process in processes] == [0, 0]

    arrivals = [datetime.fromisoformat(request["arrivedAt"]) for request in calls(simulator, "partner")]

    seconds = (arrivals[-1] - arrivals[0]).total_seconds()
    # One second of slack: calls that were let out at different times may arrive together.
    assert len(arrivals) <= limit.burst + limit.calls * (seconds + 1)
    # And the rate is used: one process alone may not have more than all of them.
    assert len(arrivals) >= limit.burst + limit.calls


async def test_an_endpoint_of_production_is_refused_at_the_start_and_gets_no_call_later(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.control("PUT", "environment/inventory", {"environment": "prod", "kind": "production"})

    refused = start_worker("fulfillment", is_awaited=False)

    assert refused.wait() == 78
    assert f"inventory: {simulator.url}/inventory belongs to 'prod', which is production" in refused.log

    simulator.control("DELETE", "environment/inventory", {})
    start_worker("starter")
    worker = start_worker("fulfillment")
    simulator.control("PUT", "environment/inventory", {"environment": "prod", "kind": "production"})
    order_id = await orders.place()

    async def is_told() -> bool:
        task = await orders.row(
            "SELECT last_error FROM cpq.fulfillment_task WHERE order_id = %(order_id)s AND step = 'reserve-inventory'",
            order_id,
        )
        return "belongs to 'prod', which is production" in (task["last_error"] or "")

    await eventually(is_told, "the step names the endpoint")
    assert simulator.requests(order_id) == simulator.requests(order_id, "GET") == []
    worker.terminate()
    assert worker.wait() == 0
