"""Two versions of a process side by side: a tenant's new orders move to the next one, its former ones drain on theirs."""

from __future__ import annotations

import pytest

from app.adapters.kafka.engine_records import EngineRecords
from app.domain.values import OrderId
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.services import Services
from tests.support.waiting import eventually

V1, V2 = "order-fulfillment-v1", "order-fulfillment-v2"
REASON = "rollout of side by side, CHG-4711"


@pytest.fixture
def records(services: Services) -> EngineRecords:
    return EngineRecords(Kafka(services).connection("admin"))


@pytest.fixture
def _workers(start_worker: StartWorker) -> None:
    """A starter and a worker of every job type."""
    start_worker("starter")
    start_worker("fulfillment")


@pytest.mark.usefixtures("_workers")
async def test_new_orders_move_to_the_next_version_and_former_ones_drain_on_theirs(
    operator: Operator, records: EngineRecords, orders: Orders, simulator: Simulator, tenant_id: str
) -> None:
    # With nothing provisioned, the first version stops there; the second one bills meanwhile.
    simulator.behave("provisioning", mode="error", status=503)
    route = ("processes", "route", "set", V2, "--tenant", tenant_id, "--priority", "10", "--reason", REASON)

    former = await orders.place()
    outcome = await operator.run(*route)
    later = await orders.place()

    assert outcome.problems == ()
    assert outcome.changes == [f"route tenant {tenant_id} to {V2}, priority 10"]
    assert (await operator.run(*route)).changes == []
    reference = await orders.reference(later)
    assert (await orders.reference(former))["process_id"] == V1
    assert (reference["process_id"], reference["variables_schema_version"]) == (V2, 2)
    assert str(reference["route_id"]) == outcome.data["route_id"]
    assert reference["route_reason"] == f"priority 10: tenant {tenant_id}"
    await wait_for_effects(simulator, later, {"inventory", "billing"})
    await wait_for_effects(simulator, former, {"inventory"})

    keys = {(await orders.reference(order))["process_instance_key"] for order in (former, later)}
    await wait_for_instances(records, keys)
    refused = await operator.run("processes", "retire", V2, "--reason", REASON)
    described = await operator.run("processes", "status", "--process", V2)
    simulator.behave("provisioning")
    await orders.completed(former, later)

    problems = "\n".join(refused.problems)
    assert f"route {outcome.data['route_id']} points to {V2} (tenant {tenant_id})" in problems
    assert str(later) in problems
    reference_key = (await orders.reference(later))["process_instance_key"]
    assert str(reference_key) in problems
    [status] = described.data["processes"]
    assert status["orders"]["live"] >= 1
    assert status["engine"]["live"] >= 1
    assert reference_key not in status["engine"]["only_in_engine"]
    assert all(each["is_in_engine"] for each in status["deployments"])
    removed = await operator.run("processes", "route", "remove", outcome.data["route_id"], "--reason", REASON)
    assert removed.problems == ()
    assert (await orders.reference(await orders.place()))["process_id"] == V1
    cursor = await orders.connection.execute(
        "SELECT command, operator, reason, outcome FROM cpq.admin_run WHERE detail->'route'->>'for' = %s "
        "ORDER BY started_at",
        [f"tenant {tenant_id}"],
    )
    runs = await cursor.fetchall()
    assert runs[0] == {"command": "processes route set", "operator": "ana", "reason": REASON, "outcome": "succeeded"}


async def wait_for_effects(simulator: Simulator, order_id: OrderId, wanted: set[str]) -> None:
    async def are_there() -> bool:
        return set(simulator.effects(order_id)) == wanted

    await eventually(are_there, f"the effects of {order_id} are {sorted(wanted)}")


async def wait_for_instances(records: EngineRecords, keys: set[int]) -> None:
    async def are_exported() -> bool:
        return keys <= records.processes().instances.keys()

    await eventually(are_exported, "the engine exported the instances")
