"""`make bench-load`: generated orders per second, beside a plain COPY of the same rows in the same run.

COPY alone is the limit: one session, rows that are made already, temporary tables, which have no constraints, no indexes and
no log. Loading is what `cpq-oms-admin load orders` does: making the rows, COPY, and the statements that take them over through
every constraint, in several sessions. The two take turns, ten thousand orders at a time. Times go to the terminal and are recorded by hand in docs/benchmarks.md. The orders stay in the
environment, which must be one for tests.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from app.adapters.postgres.catalog_seed import seed as publish_catalogs
from app.adapters.postgres.generated_history import analyze, copy, rows_of, stage, store_missing
from app.adapters.postgres.pool import Connection
from app.application.generated_history import BATCH_ORDERS, Batch, History, Step
from app.entrypoints.admin.commands.load.orders import SESSIONS
from tests.support.services import Services, find_services

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
STEPS = [
    Step("reserve-inventory", "inventory"),
    Step("provision-service", "provisioning"),
    Step("activate-billing", "billing"),
    Step("complete-order", None),
]
STEPS_TABLE = """
    CREATE TEMPORARY TABLE bench_price_step ON COMMIT DELETE ROWS AS
    SELECT quote_id, tenant_id, item_no, price_type, step_no, step, reason, amount_before, amount_after
    FROM cpq.quote_price_step WHERE false
"""
TURN = 5
"""Batches of one turn."""


def price_steps(batch: Batch) -> list[tuple[Any, ...]]:
    """The steps of all prices, which loading does not send one by one."""
    return [
        (
            quote.quote_id, quote.tenant_id, item.item_no, step.price_type, step.step_no, step.step, step.reason,
            step.amount_before, step.amount_after,
        )
        for quote in batch.quotes
        for item in quote.items
        for step in item.steps
    ]  # fmt: skip


async def copy_alone(connection: Connection, history: History, numbers: Sequence[int]) -> tuple[int, float]:
    """Return how many rows batches have and the seconds that COPY alone takes for them."""
    count, seconds = 0, 0.0
    gc.disable()  # as loading does
    for number in numbers:
        batch = history.batch(number, UNTIL)
        rows, steps = rows_of(batch), price_steps(batch)
        count += sum(map(len, rows.values())) + len(steps)
        started = time.monotonic()
        async with connection.transaction(force_rollback=True):
            for table, some in rows.items():
                await copy(connection, table, some)
            async with connection.cursor() as cursor, cursor.copy("COPY bench_price_step FROM STDIN") as copying:
                for step in steps:
                    await copying.write_row(step)
        seconds += time.monotonic() - started
    gc.enable()
    return count, seconds


async def measure(services: Services, orders: int) -> None:
    """Load and print."""
    seed = random.SystemRandom().randrange(10_000, 1_000_000_000)  # another business each time
    history = History(seed, services.environment, "order-fulfillment-v1", 1, STEPS)
    async with AsyncExitStack() as opened:
        connection, *sessions = [await opened.enter_async_context(await connect(services)) for _ in range(1 + SESSIONS)]
        started = time.monotonic()
        async with connection.pipeline():
            await publish_catalogs(connection, history.catalog_documents(), "bench")
        print(f"catalogs: {time.monotonic() - started:.1f} s for {sum(map(len, history.catalogs))} offerings")
        await stage(connection)
        await connection.execute(STEPS_TABLE)
        rows, alone, loading = 0, 0.0, 0.0
        batches = range(-(-orders // BATCH_ORDERS))
        for place in batches[::TURN]:
            turn = batches[place : place + TURN]
            count, seconds = await copy_alone(connection, history, turn)
            rows, alone = rows + count, alone + seconds
            started = time.monotonic()
            # Those before the turn's are found to be there.
            await store_missing(sessions, history, UNTIL, turn.stop, lambda _rows: None)
            loading += time.monotonic() - started
        started = time.monotonic()
        await analyze(connection)
        print(f"statistics: {time.monotonic() - started:.1f} s")
    total = len(batches) * BATCH_ORDERS
    print(f"{total} orders, {rows} rows, of seed {seed}")
    print(f"COPY alone: {total / alone:.0f} orders/s, {rows / alone:.0f} rows/s")
    print(f"load:       {total / loading:.0f} orders/s, {rows / loading:.0f} rows/s, {alone / loading:.2f} of it")


async def connect(services: Services) -> Connection:
    """Open a session of the schema's owner."""
    return await psycopg.AsyncConnection.connect(
        services.database_url("owner"),
        password=services.secret("db_owner_password"),
        autocommit=True,
        row_factory=dict_row,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--orders", type=int, default=50_000)
    asyncio.run(measure(find_services(), parser.parse_args(argv).orders))


if __name__ == "__main__":
    main()
