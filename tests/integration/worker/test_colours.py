"""Two colours of a worker group: the stale one's result is refused, the step goes on with the other, and the effect is one."""

from __future__ import annotations

import asyncio

import pytest

from app.adapters.postgres.colour_desk import PostgresColourDesk
from app.adapters.postgres.pool import Connection
from app.messaging.colours import Colour
from tests.integration.conftest import OpenPool
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.colours import REASON
from tests.support.operator import Operator
from tests.support.unit_process import UnitProcess
from tests.support.waiting import eventually
from tests.support.watched_sessions import watching

ALL = ["billing", "inventory", "provisioning"]
ROLE = "worker@fulfillment"

pytestmark = pytest.mark.usefixtures("own_epochs")


def started(start_worker: StartWorker, colour: str) -> UnitProcess:
    return start_worker(
        "fulfillment", APP_INSTANCE_ID=f"tests-fulfillment-{colour}", APP_COLOUR=colour, EXTERNAL_TIMEOUT="PT8S"
    )


async def test_the_result_of_a_frozen_worker_of_the_former_colour_is_refused_and_nothing_is_done_twice(
    open_pool: OpenPool,
    orders: Orders,
    start_worker: StartWorker,
    simulator: Simulator,
    owner_connection: Connection,
    *,
    operator: Operator,
) -> None:
    start_worker("starter")
    blue, green = started(start_worker, "blue"), started(start_worker, "green")
    flipped = await operator.run("epoch", "flip", ROLE, "--to", "blue", "--reason", REASON.text)
    assert flipped.changes == [f"{ROLE}: none to blue, epoch 0 to 1"]
    first = await orders.place()
    await orders.completed(first)
    assert green.metric('cpq_worker_jobs_total{job_type="complete-order",outcome="completed"}') == 0

    simulator.behave("inventory", latency="PT3S")
    order_id = await orders.place()

    async def is_prepared() -> bool:
        return await orders.attempts(order_id, "reserve-inventory") == ["prepared"]

    await eventually(is_prepared, "blue's call is under way")
    async with watching(await open_pool("worker"), owner_connection) as watch:
        # The epoch moves on while blue's result waits for its word: the effect is there and the record is refused.
        async with owner_connection.transaction():
            desk = PostgresColourDesk(owner_connection)
            await desk.hold(ROLE)
            await watch.freeze_before_its_epoch(blue, "tests-fulfillment-blue")
            await desk.move(ROLE, Colour.GREEN, REASON)
        assert simulator.effects(order_id) == ["inventory"]
        await asyncio.sleep(3)  # longer than it takes green to notice
    assert await orders.attempts(order_id, "reserve-inventory") == ["prepared"]
    simulator.behave("inventory")
    blue.thaw()
    await orders.completed(order_id, seconds=60)

    assert sorted(simulator.effects(order_id)) == ALL
    assert simulator.requests(order_id).count("inventory") == 1
    assert await orders.attempts(order_id, "reserve-inventory") == ["succeeded"]
    assert f"epoch 1 of {ROLE} is not held: it is in epoch 2" in blue.log

    async def is_counted() -> bool:
        """The order is complete before its worker has told the engine and counted the job."""
        return green.metric('cpq_worker_jobs_total{job_type="complete-order",outcome="completed"}') == 1

    await eventually(is_counted, "green counts the job")
