"""Product orders in PostgreSQL: the order row, its items, and one row per change of state."""

from __future__ import annotations

from typing import Any

from psycopg.errors import UniqueViolation

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.ports import ConcurrentChange
from app.domain.order import Order, OrderItem, OrderState, OrderTransition
from app.domain.quote import ItemAction
from app.domain.values import Money, OrderId, QuoteId

_SQL = NamedBlocks("orders")


class PostgresOrderRepository:
    """See `app.application.ports.OrderRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, order: Order, transition: OrderTransition) -> None:
        values = {
            "order_id": order.order_id,
            "tenant_id": order.tenant_id,
            "quote_id": order.quote_id,
            "version": order.version,
            "state": order.state,
            "customer_id": order.customer_id,
            "currency": order.currency,
            "catalog_version": order.catalog_version,
            "total_one_time": order.total_one_time.amount,
            "total_recurring": order.total_recurring.amount,
            "created_by": order.created_by,
            "created_at": order.created_at,
            "updated_at": order.updated_at,
            "item_nos": [item.item_no for item in order.items],
            "actions": [item.action for item in order.items],
            "offering_ids": [item.offering_id for item in order.items],
            "quantities": [item.quantity for item in order.items],
            "service_specifications": [item.service_specification for item in order.items],
            "totals_one_time": [item.total_one_time.amount for item in order.items],
            "totals_recurring": [item.total_recurring.amount for item in order.items],
        }
        try:
            await self._connection.execute(_SQL["add"], values | _transition_values(transition))
        except UniqueViolation as error:
            raise ConcurrentChange("order") from error

    async def get(self, order_id: OrderId, *, for_update: bool = False) -> Order | None:
        key = {"order_id": order_id}
        cursor = await self._connection.execute(_SQL["get_for_update" if for_update else "get"], key)
        row = await cursor.fetchone()
        if row is None:
            return None
        return _order(row, await (await self._connection.execute(_SQL["items"], key)).fetchall())

    async def id_for_quote(self, quote_id: QuoteId) -> OrderId | None:
        cursor = await self._connection.execute(_SQL["id_for_quote"], {"quote_id": quote_id})
        row = await cursor.fetchone()
        return row["order_id"] if row else None

    async def save(self, order: Order, transition: OrderTransition, *, expected_version: int) -> None:
        values = {
            "order_id": order.order_id,
            "expected_version": expected_version,
            "version": order.version,
            "state": order.state,
            "updated_at": order.updated_at,
        }
        cursor = await self._connection.execute(_SQL["save"], values | _transition_values(transition))
        if cursor.rowcount != 1:
            raise ConcurrentChange("order")


def _transition_values(transition: OrderTransition) -> dict[str, Any]:
    return {
        "aggregate_seq": transition.aggregate_seq,
        "from_state": transition.from_state,
        "to_state": transition.to_state,
        "reason": transition.reason,
        "actor": transition.actor,
        "occurred_at": transition.occurred_at,
    }


def _order(row: dict[str, Any], item_rows: list[dict[str, Any]]) -> Order:
    currency = row["currency"]
    return Order(
        order_id=row["order_id"],
        tenant_id=row["tenant_id"],
        quote_id=row["quote_id"],
        version=row["version"],
        aggregate_seq=row["aggregate_seq"],
        state=OrderState(row["state"]),
        customer_id=row["customer_id"],
        currency=currency,
        catalog_version=row["catalog_version"],
        total_one_time=Money(row["total_one_time"], currency),
        total_recurring=Money(row["total_recurring"], currency),
        items=tuple(
            OrderItem(
                item_no=item["item_no"],
                action=ItemAction(item["action"]),
                offering_id=item["offering_id"],
                quantity=item["quantity"],
                service_specification=item["service_specification"],
                total_one_time=Money(item["total_one_time"], currency),
                total_recurring=Money(item["total_recurring"], currency),
            )
            for item in item_rows
        ),
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
