"""The starter against the real engine: exactly one instance per order, whatever becomes of the reply."""

from __future__ import annotations

import asyncio

from app.domain.values import OrderId
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

ALREADY_STARTED = 'cpq_workflow_starts_total{outcome="already_started"}'
FAILED = 'cpq_workflow_starts_total{outcome="failed"}'


async def wait_for_state(orders: Orders, order_id: OrderId, state: str) -> None:
    async def is_there() -> bool:
        return bool((await orders.reference(order_id))["state"] == state)

    await eventually(is_there, f"the reference of {order_id} is {state}")


async def test_a_lost_reply_leads_to_exactly_one_instance(
    orders: Orders, start_worker: StartWorker, simulator: Simulator, engine_proxy: TcpProxy
) -> None:
    starter = start_worker("starter")
    await wait_for_state(orders, await orders.place(), "started")  # the connection stands

    engine_proxy.is_losing_replies = True
    order_id = await orders.place()

    async def is_unheard() -> bool:
        return engine_proxy.lost_bytes > 0 and starter.metric(FAILED) > 0

    await eventually(is_unheard, "the engine answered and the starter gave up waiting")
    engine_proxy.cut()
    engine_proxy.is_losing_replies = False
    await wait_for_state(orders, order_id, "started")

    async def is_recognised() -> bool:
        return starter.metric(ALREADY_STARTED) == 1

    await eventually(is_recognised, "the engine recognised the repeated start")
    assert (await orders.reference(order_id))["start_attempts"] > 1
    start_worker("fulfillment")
    await orders.completed(order_id)
    assert sorted(simulator.effects(order_id)) == ["billing", "inventory", "provisioning"]
    cases = await orders.rows("SELECT * FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
    assert cases == []  # a second instance would have been refused by its key


async def test_with_the_engine_down_orders_are_accepted_wait_and_then_start(
    orders: Orders, start_worker: StartWorker, engine_proxy: TcpProxy
) -> None:
    engine_proxy.is_refusing = True
    starter = start_worker("starter")  # READY without the engine
    start_worker("fulfillment")
    order_ids = [await orders.place() for _ in range(3)]

    assert starter.wait_for("STATUS=waiting", 10)
    await asyncio.sleep(2)
    for order_id in order_ids:
        assert await orders.state(order_id) == "acknowledged"
        assert (await orders.reference(order_id))["state"] == "pending"
    assert starter.metric("cpq_worker_engine_up") == 0

    engine_proxy.is_refusing = False
    await orders.completed(*order_ids)

    assert starter.metric("cpq_worker_engine_up") == 1


async def test_an_order_is_started_at_once_when_it_is_committed(orders: Orders, start_worker: StartWorker) -> None:
    start_worker("starter", WORKER_POLL_INTERVAL="PT30S")
    await asyncio.sleep(1)  # the first pass is over; the next would come in 30 s

    order_id = await orders.place()
    await wait_for_state(orders, order_id, "started")

    reference = await orders.reference(order_id)
    assert (reference["started_at"] - reference["requested_at"]).total_seconds() < 5


async def test_two_starters_start_each_order_once(orders: Orders, start_worker: StartWorker) -> None:
    starters = [start_worker("starter", APP_INSTANCE_ID=f"tests-starter-{number}") for number in (1, 2)]
    order_ids = [await orders.place() for _ in range(10)]

    for order_id in order_ids:
        await wait_for_state(orders, order_id, "started")

    assert sum(starter.metric('cpq_workflow_starts_total{outcome="started"}') for starter in starters) >= len(order_ids)
    assert sum(starter.metric(ALREADY_STARTED) for starter in starters) == 0
    assert {(await orders.reference(order_id))["start_attempts"] for order_id in order_ids} == {1}
