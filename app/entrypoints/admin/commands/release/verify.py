"""Whether the record of releases is whole."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.application import release_record
from app.application.release_record import NOTHING, Head
from app.entrypoints.admin import recording
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    known: Annotated[
        str,
        typer.Option(
            help="SEQUENCE:HASH of an entry that was noted elsewhere, such as a copy's last one.", metavar="N:HASH"
        ),
    ] = "",
) -> Outcome:
    """Hold every entry to its hash, to the entry before it, and to the evidence it was sealed with."""
    session: Session = context.obj
    return asyncio.run(_verify(session, recording.head_of(known)))


async def _verify(session: Session, known: Head) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        entries = await journal.record()
        evidence = await journal.evidence() if await journal.exists() else {}
    problems = [*release_record.problems(entries), *release_record.unproven(entries, evidence)]
    hashes = {entry.sequence: entry.hash for entry in entries}
    if known.sequence and hashes.get(known.sequence) != known.hash:
        problems.append(f"entry {known.sequence} is not the one that was noted elsewhere")
    head = Head(entries[-1].sequence, entries[-1].hash) if entries else NOTHING
    data = {"entries": len(entries), "last": f"{head.sequence}:{head.hash}"}
    return failed(problems, data) if problems else Outcome(data=data)
