"""Reactions between a real database and external systems of the test's own: done once, whatever is lost or killed."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from app.adapters.postgres.pool import Connection
from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.repair import RETRY_REACTION, RepairReason, carry_out
from app.domain.values import OrderId
from app.runtime.ids import UuidV7Ids
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.waiting import eventually

STEP = "trigger-billing"
_REQUEST = """
    INSERT INTO cpq.reaction (
        reaction_id, tenant_id, consumer_group, kind, order_id, event_id, step, external_system, request
    ) VALUES (%s, %s, 'billing-trigger', 'trigger-billing', %s, %s, 'trigger-billing', 'billing', %s)
"""

Want = Callable[[], Awaitable[tuple[OrderId, UUID]]]


@pytest.fixture
async def want(orders: Orders, owner_connection: Connection, tenant_id: str) -> Want:
    """Places an order and writes a reaction down for it, as the consumer does."""
    # What other tests' events asked for is none of this test's systems' business.
    await owner_connection.execute("UPDATE cpq.reaction SET state = 'failed' WHERE state = 'pending'")

    async def wanted() -> tuple[OrderId, UUID]:
        order_id, reaction_id = await orders.place(), uuid.uuid4()
        request = Jsonb({"orderId": str(order_id), "tenantId": tenant_id})
        await owner_connection.execute(_REQUEST, (reaction_id, tenant_id, order_id, uuid.uuid4(), request))
        return order_id, reaction_id

    return wanted


async def until(orders: Orders, order_id: OrderId, state: str) -> None:
    async def reached() -> bool:
        row = await orders.row("SELECT state FROM cpq.reaction WHERE order_id = %(order_id)s", order_id)
        return bool(row["state"] == state)

    await eventually(reached, f"the reaction of order {order_id} is {state}")


async def test_a_reaction_has_one_effect_although_its_answer_was_lost(
    orders: Orders, want: Want, simulator: Simulator, start_worker: StartWorker
) -> None:
    simulator.behave("billing", mode="act-then-timeout", remaining=1)
    order_id, _ = await want()

    start_worker("reactions", EXTERNAL_TIMEOUT="PT1S")

    await until(orders, order_id, "done")
    assert simulator.effects(order_id) == ["billing"]
    assert await orders.attempts(order_id, STEP) == ["succeeded"]


async def test_a_worker_killed_while_it_calls_leaves_one_effect(
    orders: Orders, owner_connection: Connection, want: Want, simulator: Simulator, start_worker: StartWorker
) -> None:
    simulator.behave("billing", mode="act-then-timeout", remaining=1)
    order_id, _ = await want()
    worker = start_worker("reactions", EXTERNAL_TIMEOUT="PT8S")

    async def has_acted() -> bool:
        return bool(simulator.effects(order_id))

    await eventually(has_acted, "billing has acted and does not answer")
    worker.kill()
    # The lease of the dead worker's claim, which nobody wants to wait for.
    await owner_connection.execute("UPDATE cpq.reaction SET next_attempt_at = now() WHERE order_id = %s", (order_id,))
    start_worker("reactions")

    await until(orders, order_id, "done")
    assert simulator.effects(order_id) == ["billing"]
    assert simulator.requests(order_id) == ["billing"]


async def test_a_refused_reaction_falls_out_and_is_carried_out_after_its_repair(
    orders: Orders, want: Want, simulator: Simulator, start_worker: StartWorker
) -> None:
    simulator.behave("billing", mode="error", status=422, remaining=1)
    order_id, reaction_id = await want()
    start_worker("reactions")
    await until(orders, order_id, "failed")
    case = await orders.row("SELECT state, error_code FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
    assert (case["state"], case["error_code"]) == ("open", "refused")

    reason = RepairReason("tests", "billing was told of the customer")
    async with orders.connection.transaction():
        store = PostgresRepairStore(orders.connection, UuidV7Ids())
        await carry_out(RETRY_REACTION, store, reaction_id, reason)

    await until(orders, order_id, "done")
    assert simulator.effects(order_id) == ["billing"]
    assert await orders.attempts(order_id, STEP) == ["failed", "succeeded"]
    case = await orders.row("SELECT state FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
    assert case["state"] == "resolved"
