"""The same workers get along with a newer engine version: a compatibility target, nothing of the platform runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.adapters.zeebe.channel import open_channel
from app.adapters.zeebe.operations import EngineOperations
from app.contracts.loader import load_processes
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.integration.worker.routes import route_to
from tests.support.newer_engine import newer_engine
from tests.support.released_host import find_host

BPMN = Path(__file__).resolve().parents[3] / "bpmn"


@pytest.fixture(scope="module")
def engine_address() -> Iterator[str]:
    """The newer engine, for this module only."""
    with newer_engine(find_host()) as address:
        yield address


@pytest.mark.usefixtures("own_orders")
async def test_every_process_version_is_worked_to_its_end_on_the_newer_engine(
    engine_address: str, orders: Orders, start_worker: StartWorker, simulator: Simulator, tenant_id: str
) -> None:
    async with open_channel(engine_address) as channel:
        files = [BPMN / process.file for process in load_processes().processes.values()]
        deployed = await EngineOperations(channel).deploy(files)
    assert {process.process_id for process in deployed} == set(load_processes().processes)
    first = await orders.place()
    async with route_to(orders.connection, "order-fulfillment-v2", tenant_id):
        second = await orders.place()

    starter = start_worker("starter", CAMUNDA_GRPC_ADDRESS=engine_address)
    start_worker("fulfillment", CAMUNDA_GRPC_ADDRESS=engine_address)
    await orders.completed(first, second)

    assert [(await orders.reference(order))["process_id"] for order in (first, second)] == [
        "order-fulfillment-v1",
        "order-fulfillment-v2",
    ]
    for order in (first, second):
        assert sorted(simulator.effects(order)) == ["billing", "inventory", "provisioning"]
    assert starter.metric('cpq_workflow_starts_total{outcome="started"}') == 2
