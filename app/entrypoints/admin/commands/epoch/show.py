"""Which colour of each role works, and which processes are there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import typer

from app.adapters.postgres.colour_desk import PostgresColourDesk
from app.application.colour_flip import RoleState, SeenProcess
from app.contracts.loader import coloured_roles, load_units
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Show each role's epoch, the colour that works in it, since when and by whom, and its processes: who works, who stands by, who is not seen any more."""
    session: Session = context.obj
    return asyncio.run(_show(session))


async def _show(session: Session) -> Outcome:
    async with session.database() as connection:
        desk = PostgresColourDesk(connection)
        states = {state.role: state for state in await desk.roles()}
        seen = await desk.processes()
    roles = {role: _role(states.get(role)) for role in coloured_roles(load_units())}
    for process in seen:
        roles.setdefault(process.role, _role(states.get(process.role)))["processes"].append(_process(process))
    table = [
        {
            "role": role,
            "epoch": said["epoch"],
            "works": said["colour"],
            "since": said["since"],
            "by": said["by"],
            "processes": ", ".join(f"{one['instance']} ({one['colour']}) {one['does']}" for one in said["processes"]),
        }
        for role, said in roles.items()
    ]
    return Outcome(data={"roles": roles}, table=table)


def _role(state: RoleState | None) -> dict[str, Any]:
    if state is None:
        return {"epoch": 0, "colour": "none", "since": None, "by": None, "reason": None, "processes": []}
    return {
        "epoch": state.present.epoch,
        "colour": str(state.present.colour),
        "since": state.changed_at.isoformat(timespec="seconds"),
        "by": state.changed_by,
        "reason": state.reason,
        "processes": [],
    }


def _process(process: SeenProcess) -> Mapping[str, Any]:
    does = "works" if process.held_epoch is not None else "stands by"
    return {
        "instance": process.instance_id,
        "colour": str(process.colour),
        "release": process.release_id,
        "held_epoch": process.held_epoch,
        "seen_at": process.seen_at.isoformat(timespec="seconds"),
        "does": does if process.lives else "is not seen any more",
    }
