"""Backfills: what expand migrations made room for is filled, in batches beside traffic."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.adapters.postgres.backfills import PostgresBackfill, PostgresPace, Progress, hold_backfills, progress
from app.adapters.postgres.migrations import MigrationRefusedError
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.standbys import Standbys
from app.application.backfill_run import BackfillEnd, Limits, run
from app.application.migration_header import read_header
from app.entrypoints.admin.outcome import Outcome, failed, planned
from app.entrypoints.admin.wiring import Session
from app.runtime.clock import SystemClock
from app.runtime.shutdown import Shutdown

_MILLISECONDS = 1000


def command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="One backfill; all that are not done, where none is named.")] = "",
    *,
    batch: Annotated[int, typer.Option(min=1, help="Most rows of a batch.")] = 500,
    pause: Annotated[int, typer.Option(min=0, help="Milliseconds between two batches.")] = 100,
    max_lag: Annotated[float, typer.Option(min=0, help="Seconds that a standby may be behind.")] = 5.0,
    max_backlog: Annotated[int, typer.Option(min=0, help="Events that may wait in the outbox.")] = 1000,
    plan: Annotated[bool, typer.Option("--plan", help="Only say which are not done, and how far they are.")] = False,
) -> Outcome:
    """Run backfills of the bundle, each from where it stands; what is stopped goes on by the same command.

    Every batch commits alone, together with its place. It holds still while a standby or the outbox is behind. One that is
    done is verified, and opens the way for the contract migrations that need it.
    """
    session: Session = context.obj
    if plan:
        return asyncio.run(_plan(session, name))
    return asyncio.run(_run(session, name, Limits(batch, pause / _MILLISECONDS), (max_lag, max_backlog)))


async def _plan(session: Session, name: str) -> Outcome:
    names = await asyncio.to_thread(_pending, session, name)
    async with session.owner_database() as connection:
        begun = {each.migration: each for each in await progress(connection)}
    return planned([f"backfill {each}: {_stands(begun.get(each))}" for each in names], {"backfills": names})


async def _run(session: Session, name: str, limits: Limits, most_behind: tuple[float, int]) -> Outcome:
    names = await asyncio.to_thread(_pending, session, name)
    if not names:
        return Outcome()
    stop = Shutdown.on_signals()
    settings = session.settings
    standbys = Standbys(
        settings.db_owner_url,
        settings.db_owner_password.accepted,
        session.application_name,
        settings.db_statement_timeout,
    )
    async with session.owner_database() as connection, session.audited(connection, "migrate backfill") as detail:
        await hold_backfills(connection)
        pace = PostgresPace(connection, standbys, SystemClock(), *most_behind)
        ends: dict[str, BackfillEnd] = {}
        detail["backfills"] = told = dict[str, Any]()
        for each in names:
            ends[each] = await run(await _begun(session, connection, each), pace, limits, stop)
            told[each] = asdict(ends[each])
            if not ends[each].is_done:
                break
    return _outcome(ends, told)


def _outcome(ends: dict[str, BackfillEnd], told: dict[str, Any]) -> Outcome:
    stopped = [
        f"{name} was stopped after {end.batches} batches: the same command goes on from there"
        for name, end in ends.items()
        if not end.is_done
    ]
    if stopped:
        return failed(stopped, told)
    lines = [f"backfill {name}: {end.rows_changed} rows in {end.batches} batches" for name, end in ends.items()]
    return Outcome(changes=lines, changed=True, data=told)


async def _begun(session: Session, connection: Connection, name: str) -> PostgresBackfill:
    migrator = session.migrator()
    file = migrator.files()[name]
    budget = read_header(name, file.read_text(encoding="utf-8")).budget
    if budget is None:
        raise MigrationRefusedError(f"{name}.sql has no budget; expected -- budget: lock 200ms, duration 5s")
    backfill = PostgresBackfill(connection, migrator, file, budget, session.release.release_id)
    await backfill.begin(migrator.contents()[name], session.operator)
    return backfill


def _pending(session: Session, name: str) -> list[str]:
    """Name what is to be done, in order; refuses what comes before something it needs."""
    migrator = session.migrator()
    plan = migrator.plan()
    known = [each for each in migrator.files() if "_backfill_" in each]
    if name and name not in known:
        raise MigrationRefusedError(f"there is no backfill {name}; expected one of {', '.join(known) or 'none'}")
    names = [each for each in plan.backfills if name in {"", each}]
    if earlier := [each for each in plan.pending if names and each < names[-1]]:
        raise MigrationRefusedError(f"{earlier[0]} is not applied, and comes before {names[-1]}: migrate expand first")
    return names


def _stands(begun: Progress | None) -> str:
    if begun is None:
        return "not begun"
    place = f", after {begun.after_key}" if begun.after_key is not None else ""
    return f"begun by {begun.operator}, {begun.rows_changed} rows in {begun.batches} batches{place}"
