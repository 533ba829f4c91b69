"""Stores generated history: COPY into temporary tables, then one statement per table.

COPY itself is refused on tables with row-level security, also for their owner; the statements that follow pass every
constraint and policy that a row of the platform's own passes. Several sessions store a batch each: while the server takes
one over, the next is made and copied.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.generated_history import Batch, History

_SQL = NamedBlocks("generated_history")
_LOCK = 0x6C6F6164

# By table, in the order in which references allow it. The steps of prices are not among them: see _WATERFALLS.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "quote": (
        "quote_id", "tenant_id", "version", "aggregate_seq", "state", "customer_id", "currency", "catalog_version",
        "valid_until", "priced_at", "total_one_time", "total_recurring", "created_by", "created_at", "updated_at",
    ),
    "quote_item": (
        "quote_id", "tenant_id", "item_no", "action", "offering_id", "quantity", "total_one_time", "total_recurring",
    ),
    "product_order": (
        "order_id", "tenant_id", "quote_id", "version", "aggregate_seq", "state", "customer_id", "currency",
        "catalog_version", "total_one_time", "total_recurring", "created_by", "created_at", "updated_at",
    ),
    "order_item": (
        "order_id", "tenant_id", "item_no", "action", "offering_id", "quantity", "service_specification",
        "total_one_time", "total_recurring",
    ),
    "order_transition": (
        "order_id", "tenant_id", "aggregate_seq", "from_state", "to_state", "reason", "actor", "occurred_at",
    ),
    "fulfillment_task": (
        "order_id", "tenant_id", "step", "state", "run_count", "external_reference", "last_error", "updated_at",
    ),
    "external_call_attempt": (
        "attempt_id", "tenant_id", "order_id", "step", "epoch", "attempt_no", "external_system", "idempotency_key",
        "request_sha256", "state", "prepared_at", "finished_at", "response_status", "external_reference", "error",
    ),
    "workflow_reference": (
        "order_id", "tenant_id", "process_id", "variables_schema_version", "message_id", "state", "start_attempts",
        "next_attempt_at", "process_instance_key", "requested_at", "started_at", "finished_at",
    ),
    "order_projection": (
        "order_id", "tenant_id", "quote_id", "customer_id", "state", "applied_seq", "currency", "total_one_time",
        "total_recurring", "updated_at",
    ),
}  # fmt: skip
# Half of all rows are steps of prices, and every item of an offering in a quantity has the same ones: they travel once a batch.
_WATERFALLS = "waterfall"
_WATERFALL_COLUMNS = (
    "tenant_id", "offering_id", "quantity", "price_type", "step_no", "step", "reason", "amount_before", "amount_after",
)  # fmt: skip
_CATALOG = ("tenant", "catalog_version", "product_offering", "product_offering_price", "price_adjustment_tier")


async def lock(connection: Connection) -> bool:
    """Keep other runs away until the session ends; False where one is at it."""
    row = await (await connection.execute(_SQL["lock"], {"key": _LOCK})).fetchone()
    return bool(row and row["is_mine"])


async def published_at(connection: Connection, tenant: str) -> datetime | None:
    """When the catalog of a tenant was published, or None."""
    row = await (await connection.execute(_SQL["published_at"], {"tenant_id": tenant})).fetchone()
    return row["published_at"] if row else None


async def is_stored(connection: Connection, order_id: UUID) -> bool:
    """Tell whether an order is there."""
    row = await (await connection.execute(_SQL["is_stored"], {"order_id": order_id})).fetchone()
    return bool(row and row["is_stored"])


async def store_missing(
    connections: Sequence[Connection],
    history: History,
    until: datetime,
    batches: int,
    passed: Callable[[int], None],
) -> None:
    """Store those of the first batches that are not there, with all connections at once.

    A batch is there whole or not at all, whatever ends this.

    Args:
        connections: sessions of the schema's owner.
        history: whose batches.
        until: when the history ends.
        batches: how many batches there are to be.
        passed: is told of each batch, with the number of its rows that were stored; 0 where it was there.
    """
    numbers = iter(range(batches))

    async def work(connection: Connection) -> None:
        await stage(connection)
        for number in numbers:
            if await is_stored(connection, history.first_order(number, until)):
                passed(0)
            else:
                batch = await asyncio.to_thread(history.batch, number, until)
                passed(await store(connection, batch))

    with _without_collector():
        try:
            async with asyncio.TaskGroup() as group:
                for connection in connections:
                    group.create_task(work(connection))
        except ExceptionGroup as failed:
            # The others were ended because of it.
            raise failed.exceptions[0] from None


@contextmanager
def _without_collector() -> Iterator[None]:
    """Rows make no cycles; looking for some, over and over, took half of the time of making them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def stage(connection: Connection) -> None:
    """Make the temporary tables of a session; each transaction leaves them empty."""
    await connection.execute(_SQL["stage_memory"])
    await connection.execute(_SQL["stage_waterfalls"])
    for table in _COLUMNS:
        await connection.execute(_statement("stage", table))


async def store(connection: Connection, batch: Batch) -> int:
    """Store a batch whole or not at all, in a session that has the temporary tables; answer how many rows that were."""
    takes = [_statement("take_over", table) for table in _COLUMNS]
    takes.append(_statement("take_over_waterfalls", _WATERFALLS))
    async with connection.transaction():
        await copy(connection, _WATERFALLS, waterfalls_of(batch))
        for table, rows in rows_of(batch).items():
            await copy(connection, table, rows)
        # In one message: between two tables the server waits for nobody.
        taken = await connection.execute(sql.SQL(";").join(takes))
        stored = taken.rowcount
        while taken.nextset():
            stored += taken.rowcount
    return stored


async def copy(connection: Connection, table: str, rows: Iterable[Sequence[Any]]) -> None:
    """Copy the rows of a table into its temporary one."""
    async with connection.cursor() as cursor, cursor.copy(_statement("copy", table)) as copying:
        for row in rows:
            await copying.write_row(row)


async def analyze(connection: Connection) -> None:
    """Let the planner see what there is now."""
    for table in (*_CATALOG, *_COLUMNS, "quote_price_step"):
        await connection.execute(_statement("analyze", table))


def _statement(name: str, table: str) -> sql.Composed:
    columns = _WATERFALL_COLUMNS if table == _WATERFALLS else _COLUMNS.get(table, ())
    return sql.SQL(_SQL[name]).format(
        stage=sql.Identifier(f"generated_{table}"),
        target=sql.Identifier("cpq", table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )


def waterfalls_of(batch: Batch) -> Iterator[Sequence[Any]]:
    """The steps of prices that items of a batch have: once for each tenant, offering and quantity."""
    told: set[tuple[str, str, int]] = set()
    for quote in batch.quotes:
        for item in quote.items:
            key = (quote.tenant_id, item.offering_id, item.quantity)
            if item.steps and key not in told:
                told.add(key)
                for step in item.steps:
                    yield (
                        *key, step.price_type, step.step_no, step.step, step.reason, step.amount_before, step.amount_after
                    )  # fmt: skip


def rows_of(batch: Batch) -> dict[str, list[Sequence[Any]]]:
    """The rows of a batch by table, in the order in which references allow them; steps of prices aside."""
    rows: dict[str, list[Sequence[Any]]] = {table: [] for table in _COLUMNS}
    for quote in batch.quotes:
        once, recurring = _amounts(quote.total_one_time, quote.total_recurring)
        rows["quote"].append((
            quote.quote_id, quote.tenant_id, quote.version, quote.aggregate_seq, quote.state, quote.customer_id,
            quote.currency, quote.catalog_version, quote.valid_until, quote.priced_at, once, recurring,
            quote.created_by, quote.created_at, quote.updated_at,
        ))  # fmt: skip
        for item in quote.items:
            rows["quote_item"].append((
                quote.quote_id, quote.tenant_id, item.item_no, item.action, item.offering_id, item.quantity,
                *_amounts(item.total_one_time, item.total_recurring),
            ))  # fmt: skip
    for fulfilled in batch.orders:
        order, reference = fulfilled.order, fulfilled.reference
        once, recurring = _amounts(order.total_one_time, order.total_recurring)
        rows["product_order"].append((
            order.order_id, order.tenant_id, order.quote_id, order.version, order.aggregate_seq, order.state,
            order.customer_id, order.currency, order.catalog_version, once, recurring, order.created_by,
            order.created_at, order.updated_at,
        ))  # fmt: skip
        rows["order_item"] += [
            (
                order.order_id, order.tenant_id, item.item_no, item.action, item.offering_id, item.quantity,
                item.service_specification, *_amounts(item.total_one_time, item.total_recurring),
            )
            for item in order.items
        ]  # fmt: skip
        rows["order_transition"] += [
            (
                order.order_id, order.tenant_id, step.aggregate_seq, step.from_state, step.to_state, step.reason,
                step.actor, step.occurred_at,
            )
            for step in fulfilled.transitions
        ]  # fmt: skip
        rows["fulfillment_task"] += [
            (
                order.order_id, order.tenant_id, task.step, task.state, task.run_count, task.external_reference,
                task.last_error, task.updated_at,
            )
            for task in fulfilled.tasks
        ]  # fmt: skip
        rows["external_call_attempt"] += [
            tuple(getattr(attempt, name) for name in _COLUMNS["external_call_attempt"])
            for attempt in fulfilled.attempts
        ]
        rows["workflow_reference"].append((
            order.order_id, order.tenant_id, reference.process_id, reference.variables_schema_version,
            reference.message_id, reference.state, reference.start_attempts, fulfilled.request.requested_at,
            reference.process_instance_key, fulfilled.request.requested_at, reference.started_at,
            reference.finished_at,
        ))  # fmt: skip
        rows["order_projection"].append((
            order.order_id, order.tenant_id, order.quote_id, order.customer_id, order.state, order.aggregate_seq,
            order.currency, once, recurring, order.updated_at,
        ))  # fmt: skip
    return rows


def _amounts(*money: Any) -> Iterable[Any]:
    return tuple(None if each is None else each.amount for each in money)
