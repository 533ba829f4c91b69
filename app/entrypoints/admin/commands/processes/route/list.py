"""The routes that count, in the order in which they are asked."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import StoredRoute
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List routes by business process, the highest priority first, with who set them and why."""
    session: Session = context.obj
    return Outcome(data={"routes": [_shown(stored) for stored in asyncio.run(_routes(session))]})


async def _routes(session: Session) -> list[StoredRoute]:
    async with session.database() as connection:
        return await PostgresProcessStore(connection).routes()


def _shown(stored: StoredRoute) -> dict[str, Any]:
    route = stored.route
    return {
        "route_id": route.route_id,
        "process_id": route.process_id,
        "priority": route.priority,
        "for": route.description,
        "valid_from": route.valid_from,
        "valid_to": route.valid_to,
        "created_by": stored.created_by,
        "reason": stored.reason,
    }
