"""One step of a release in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.application.release_record import Place
from app.entrypoints.admin import recording
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


class State(StrEnum):
    """What can be said of a step."""

    running = "running"
    succeeded = "succeeded"
    failed = "failed"


def command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The step, such as api or bpmn.")],
    state: Annotated[State, typer.Argument(help="What became of it.")],
    *,
    holder: Annotated[str, typer.Option(help="Who holds the release, as given to begin.")],
    evidence: Annotated[str | None, typer.Option(help="One line of evidence.")] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="A host that it concerned, with its release before and after; - for none. May be given again.",
            metavar="'HOST BEFORE AFTER'",
        ),
    ] = None,
) -> Outcome:
    """Write what became of a step; also the sign that the holder is alive. Refused when it lost the release."""
    session: Session = context.obj
    return asyncio.run(_step(session, name, state, holder=holder, evidence=evidence, places=recording.places(on or ())))


async def _step(
    session: Session, name: str, state: State, *, holder: str, evidence: str | None, places: Sequence[Place]
) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        if await journal.exists():
            run_id = await journal.held_by(holder)
            shown = {"evidence": evidence} if evidence else None
            entries = await journal.step(run_id, name, state.value, shown, places)
            return Outcome(data={"entries": recording.told(entries)})
    return Outcome()
