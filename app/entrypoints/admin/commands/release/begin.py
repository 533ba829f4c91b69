"""Opens the journal of a release, or goes on with one whose holder is dead."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.application.release_record import Head
from app.application.release_run import Holder
from app.entrypoints.admin import recording
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    *,
    release_id: Annotated[str, typer.Option(help="The release that begins.")],
    holder: Annotated[str, typer.Option(help="user@host:process:start of the playbook's process.")],
    living: Annotated[
        list[str] | None,
        typer.Option(help="A playbook that runs on the holder's host now, named like a holder; may be given again."),
    ] = None,
    known: Annotated[
        str,
        typer.Option(help="SEQUENCE:HASH of the last entry in this machine's copy of the record.", metavar="N:HASH"),
    ] = "",
    despite: Annotated[
        str, typer.Option(help="Why it is released although releases are frozen; goes on record.", metavar="WHY")
    ] = "",
    stale_after: Annotated[int, typer.Option(min=1, help="Minutes of silence after which any holder is dead.")] = 15,
) -> Outcome:
    """Begin a release; refused, with the holder's name, while another one is under way, and while releases are frozen.

    Before the first migrations there is no journal: `began` is false then, and the same command comes again after them.
    """
    session: Session = context.obj
    asking = Holder(holder, session.operator, frozenset(living or ()), timedelta(minutes=stale_after))
    return asyncio.run(_begin(session, release_id, asking, recording.head_of(known), despite))


async def _begin(session: Session, release_id: str, asking: Holder, known: Head, despite: str) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        if not await journal.exists():
            return Outcome(data={"began": False, "paused_timers": []})
        begun = await journal.begin(session.new_id(), release_id, asking, known, despite)
    return Outcome(
        data={
            "began": True,
            "run_id": str(begun.run_id),
            "resumed": begun.resumed,
            "taken_over": begun.taken_over,
            "paused_timers": list(begun.paused_timers),
            "is_proven": begun.is_proven,
            "entries": recording.told(begun.entries),
        }
    )
