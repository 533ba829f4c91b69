"""What an environment has that a plan stands on."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from app.adapters.postgres.live_state import LiveDatabase
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.postgres.release_freezes import ReleaseFreezes
from app.application.release_freeze import refusal
from app.entrypoints.admin.commands.bpmn.served import environment
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List applied migrations, deployed processes, live workers, and what orders can still reach: input of `release plan`.

    `frozen` says why nothing may be released now; it is empty where something may.
    """
    session: Session = context.obj
    return Outcome(data=asyncio.run(_live(session)))


async def _live(session: Session) -> dict[str, Any]:
    served = await environment(session)
    async with session.database() as connection:
        migrations = await LiveDatabase(connection).applied_migrations()
        there = await has_table(connection, "process_deployment")
        deployments = await ProcessDeployments(connection).all() if there else []
        freeze = await ReleaseFreezes(connection).in_force()
    deployed: dict[str, list[str]] = {}
    for each in deployments:
        deployed.setdefault(each.process_id, []).append(each.content_sha256)
    return {**served, "deployed": deployed, "migrations": migrations, "frozen": refusal(freeze, despite="")}
