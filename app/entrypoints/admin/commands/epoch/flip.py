"""Lets one colour of a role work in the place of another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from app.adapters.postgres.colour_desk import PostgresColourDesk
from app.application.colour_flip import FlipRefusedError, flip, planned_flips
from app.application.repair import RepairReason
from app.contracts.loader import coloured_roles, load_units
from app.entrypoints.admin.outcome import Outcome, applied, planned
from app.entrypoints.admin.wiring import Session
from app.messaging.colours import Colour


def command(
    context: typer.Context,
    role: Annotated[str | None, typer.Argument(help="relay, consumer@GROUP or worker@GROUP.")] = None,
    *,
    to: Annotated[Colour, typer.Option(help="The colour that works from now on; none: processes without a colour.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
    every: Annotated[bool, typer.Option("--all", help="Every role, all of them or none.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would change.")] = False,
) -> Outcome:
    """Begin the next epoch of a role: what processes of the former colour write from then on is refused, and they stand by within seconds.

    Transactions that are under way are waited for. A colour of which no live process is registered is refused.
    """
    session: Session = context.obj
    roles = _roles(role, every=every)
    return asyncio.run(_flip(session, roles, to, RepairReason(session.operator, reason), is_plan=plan))


def _roles(role: str | None, *, every: bool) -> Sequence[str]:
    known = coloured_roles(load_units())
    if every == (role is not None):
        raise typer.BadParameter("expected a role or --all", param_hint="ROLE")
    if role is None:
        return known
    if role not in known:
        raise FlipRefusedError(f"{role} is no role with colours; there are {', '.join(known)}")
    return [role]


async def _flip(session: Session, roles: Sequence[str], to: Colour, reason: RepairReason, *, is_plan: bool) -> Outcome:
    if is_plan:
        async with session.database() as connection:
            return planned([one.sentence for one in await planned_flips(PostgresColourDesk(connection), roles, to)])
    async with session.audited_transaction("epoch flip", reason.text) as (connection, detail):
        done = await flip(PostgresColourDesk(connection), roles, to, reason)
        detail["flips"] = [one.sentence for one in done]
    return applied([one.sentence for one in done])
