"""The same workers get along with a newer engine version: a compatibility target, nothing of the platform runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app.adapters.zeebe.channel import open_channel
from app.adapters.zeebe.operations import EngineOperations
from app.contracts.loader import load_processes
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.integration.worker.routes import route_to
from tests.support.newer_engine import newer_engine
from tests.support.released_host import find_host
from tests.support.waiting import eventually

BPMN = Path(__file__).resolve().parents[3] / "bpmn"
ALL = ["billing", "inventory", "provisioning"]
JOB_TIMEOUT = 30.0
"""The contract's: until then the engine gives the job of a dead process to nobody by itself."""


@pytest.fixture(scope="module")
def engine_address() -> Iterator[str]:
    """The newer engine, for this module only."""
    with newer_engine(find_host()) as address:
        yield address


@pytest.fixture
async def start_on_newer(engine_address: str, start_worker: StartWorker) -> StartWorker:
    """Starts workers of the newer engine, which has every process version."""
    async with open_channel(engine_address) as channel:
        files = [BPMN / process.file for process in load_processes().processes.values()]
        deployed = await EngineOperations(channel).deploy(files)
    assert {process.process_id for process in deployed} == set(load_processes().processes)
    return partial(start_worker, CAMUNDA_GRPC_ADDRESS=engine_address)


async def test_every_process_version_is_worked_to_its_end_on_the_newer_engine(
    orders: Orders, start_on_newer: StartWorker, simulator: Simulator, tenant_id: str
) -> None:
    first = await orders.place()
    async with route_to(orders.connection, "order-fulfillment-v2", tenant_id):
        second = await orders.place()

    starter = start_on_newer("starter")
    start_on_newer("fulfillment")
    await orders.completed(first, second)

    assert [(await orders.reference(order))["process_id"] for order in (first, second)] == [
        "order-fulfillment-v1",
        "order-fulfillment-v2",
    ]
    for order in (first, second):
        assert sorted(simulator.effects(order)) == ALL
    assert starter.metric('cpq_workflow_starts_total{outcome="started"}') == 2


async def test_failed_runs_are_repeated_and_a_refusal_ends_the_process_on_the_newer_engine(
    orders: Orders, start_on_newer: StartWorker, simulator: Simulator
) -> None:
    start_on_newer("starter")
    worker = start_on_newer("fulfillment")
    simulator.behave("inventory", mode="error", status=503, remaining=1)
    repeated = await orders.place()
    await orders.completed(repeated)
    assert await orders.attempts(repeated, "reserve-inventory") == ["failed", "succeeded"]

    simulator.behave("inventory", mode="error", status=422, remaining=1)
    refused = await orders.place()

    async def is_thrown() -> bool:
        return worker.metric('cpq_worker_jobs_total{job_type="reserve-inventory",outcome="refused"}') == 1

    await eventually(is_thrown, "the engine took the BPMN error")
    assert await orders.state(refused) == "failed"
    assert simulator.effects(refused) == []


async def test_a_killed_workers_job_goes_on_at_once_and_a_stopped_one_drains_on_the_newer_engine(
    orders: Orders, start_on_newer: StartWorker, simulator: Simulator
) -> None:
    start_on_newer("starter")
    killed = start_on_newer("fulfillment")
    simulator.behave("provisioning", mode="act-then-timeout", remaining=1)
    order_id = await orders.place()

    async def is_provisioned() -> bool:
        return "provisioning" in simulator.effects(order_id)

    await eventually(is_provisioned, "provisioning did its work and says nothing")
    killed.kill()
    stopped = start_on_newer("fulfillment")
    await orders.completed(order_id, seconds=JOB_TIMEOUT - 5)
    assert sorted(simulator.requests(order_id)) == ALL

    simulator.behave("billing", latency="PT1S")
    drained = await orders.place()

    async def is_charged() -> bool:
        return "billing" in simulator.requests(drained)

    await eventually(is_charged, "billing works on the order")
    stopped.terminate()
    assert stopped.wait() == 0
    assert await orders.attempts(drained, "activate-billing") == ["succeeded"]
    start_on_newer("fulfillment", APP_INSTANCE_ID="tests-fulfillment-2")
    await orders.completed(drained, seconds=JOB_TIMEOUT - 5)
    assert sorted(simulator.requests(drained)) == ALL
