"""A business of years for environments that measure capacity."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Annotated

import typer

from app.adapters.postgres.catalog_seed import seed as publish_catalogs
from app.adapters.postgres.generated_history import analyze, lock, published_at, store_missing
from app.application.generated_history import BATCH_ORDERS, History, Step
from app.application.operations import OperationError
from app.contracts.loader import load_job_types, load_processes, may_hold_generated_orders
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import InputError, Session

SESSIONS = 3
"""Store a batch each: one is made and copied while the server takes others over. The owner may have five."""
_GAP = timedelta(days=7)
"""Before the catalogs were published the history ends, so that no comparison of recent days meets it."""


def command(
    context: typer.Context,
    orders: Annotated[int, typer.Option(min=1, help="How many orders there are to be, in whole batches.")],
    seed: Annotated[int, typer.Option(min=1, max=9999, help="What everything is made from.")] = 1,
    statistics: Annotated[bool, typer.Option(help="Analyze at the end; a series of runs does so in its last.")] = True,
) -> Outcome:
    """Store generated tenants, catalogs, quotes and fulfilled orders, and analyze; what is there already is left as it is.

    A run that was cut short goes on where it stopped, and a larger number adds to a smaller. Refused in environments that
    app/contracts/environments.yml does not name for it.
    """
    session: Session = context.obj
    environment = session.settings.app_env
    if not may_hold_generated_orders(environment):
        raise InputError(
            f"{environment} holds no generated orders: expected an environment that generated_orders of environments.yml names"
        )
    return asyncio.run(_load(session, orders, seed, statistics=statistics))


async def _load(session: Session, orders: int, seed: int, *, statistics: bool) -> Outcome:
    history = _history(session.settings.app_env, seed)
    progress = _Progress(-(-orders // BATCH_ORDERS))
    async with session.owner_database() as connection, session.audited(connection, "load orders") as detail:
        if not await lock(connection):
            raise OperationError("another run generates orders")
        async with connection.pipeline():
            published = await publish_catalogs(connection, history.catalog_documents(), session.operator)
        until = await published_at(connection, history.tenants[0])
        if until is None:
            raise OperationError(f"{history.tenants[0]} has no catalog version 1")
        async with AsyncExitStack() as opened:
            sessions = [await opened.enter_async_context(session.owner_database()) for _ in range(SESSIONS)]
            await store_missing(sessions, history, until - _GAP, progress.batches, progress.passed)
        if statistics:
            await analyze(connection)
        stored = progress.stored * BATCH_ORDERS
        detail |= {"seed": seed, "orders": stored, "rows": progress.rows, "tenants": len(published)}
    changes = [f"store {stored} generated orders of seed {seed}: {progress.rows} rows"] if stored else []
    return applied(changes, {"orders": progress.batches * BATCH_ORDERS, "stored": stored, "rows": progress.rows})


class _Progress:
    """How far a run is, told to a terminal."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.stored = self.rows = self._passed = 0

    def passed(self, rows: int) -> None:
        """Count a batch, which had been there if no row of it was stored."""
        self._passed += 1
        self.rows += rows
        self.stored += rows > 0
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{self._passed * BATCH_ORDERS} of {self.batches * BATCH_ORDERS} orders")


def _history(environment: str, seed: int) -> History:
    processes, job_types = load_processes(), load_job_types().job_types
    default = processes.routing["order-fulfillment"].default
    if default is None:
        raise OperationError("processes.yml names no default process of orders")
    process = processes.processes[default]
    steps = [Step(name, job_types[name].external_system) for name in process.job_types]
    return History(seed, environment, default, process.variables_schema_version, steps)
