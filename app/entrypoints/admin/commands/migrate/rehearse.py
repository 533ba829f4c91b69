"""Migrations on a clone, before they meet traffic."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict
from typing import Annotated, Any

import typer
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from app.adapters.postgres.lock_watch import INTERVAL_SECONDS
from app.adapters.postgres.migration_rehearsal import Clone, identity, rehearse
from app.application.migration_header import Budget, read_header
from app.application.migration_rehearsal import Rehearsed, over_budget
from app.entrypoints.admin.outcome import EXIT_FAILED, Outcome
from app.entrypoints.admin.wiring import InputError, Session

_MILLISECONDS = 1000


def command(
    context: typer.Context,
    on: Annotated[
        str,
        typer.Option(
            help="postgresql://owner@host:port/database of a restored clone; its owner has the password of the schema's owner."
        ),
    ],
    batch: Annotated[int, typer.Option(min=1, help="Most rows of a backfill's batch.")] = 500,
) -> Outcome:
    """Apply every pending migration of the bundle to a clone, all phases in order, and hold each to its budget.

    Every 20 ms another session looks which tables it has locked and how. The clone stays as the migrations leave it.
    Exit 1 names each that went over its budget, or fails.
    """
    session: Session = context.obj
    return asyncio.run(_rehearse(session, _checked(on), batch))


async def _rehearse(session: Session, on: str, batch: int) -> Outcome:
    directory = session.bundled("migrations")
    password = session.settings.db_owner_password.get_secret_value()
    clone = Clone(on, password, f"rehearsal/{session.release.release_id}")
    async with session.owner_database() as connection:
        live = await identity(connection)
    seen = await rehearse(clone, directory, live, session.release.release_id, batch)
    done: list[Rehearsed] = seen["migrations"]
    told, problems = [], list[str]()
    for each in done:
        text = (directory / f"{each.migration}.sql").read_text(encoding="utf-8")
        budget = read_header(each.migration, text).budget
        problems += over_budget(each, budget) if budget else []
        sha = hashlib.sha256(text.encode()).hexdigest()
        told.append({**asdict(each), "content_sha256": sha, "budget": _told(budget)})
    data = {
        "release_id": session.release.release_id,
        "sampled_every_ms": round(_MILLISECONDS * INTERVAL_SECONDS),
        "clone": seen["clone"],
        "migrations": told,
    }
    return Outcome(problems=problems, data=data, exit_code=EXIT_FAILED if problems else 0)


def _told(budget: Budget | None) -> dict[str, Any] | None:
    if budget is None:
        return None
    return {
        "lock_ms": round(_MILLISECONDS * budget.lock.total_seconds()),
        "duration_ms": round(_MILLISECONDS * budget.duration.total_seconds()),
    }


def _checked(url: str) -> str:
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise InputError(f"--on: expected postgresql://owner@host:port/database, found {url[:80]!r}") from error
    if lacking := [name for name in ("host", "user", "dbname") if not parts.get(name)]:
        raise InputError(f"--on: names no {lacking[0]}; expected postgresql://owner@host:port/database")
    if "password" in parts:
        raise InputError(
            "--on: a password in a command can be read by everybody on this host; the schema owner's is used"
        )
    return url
