"""Checks an audit export, wherever its files are: they come as a tar archive."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

import typer

from app.adapters.postgres.audit_export import exported_segments
from app.application.export_verification import verify_export
from app.application.operations import OperationError
from app.entrypoints.admin.outcome import EXIT_FAILED, Outcome
from app.entrypoints.admin.wiring import Session

_SHOWN = 100


class ArchiveUnreadableError(OperationError):
    """What came is no tar archive."""


def command(
    context: typer.Context,
    archive: Annotated[
        Path | None, typer.Option(help="A tar archive of the export's folder; standard input without it.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="The consumer whose folder it is, where several hosts export.")
    ] = None,
) -> Outcome:
    """Check hashes, order, gaps and repetitions of every record, then every file against the rows it was made from.

    On a consumer's host: tar -C /var/lib/private/cpq-oms-consumer/audit-export -c . | cpq-oms-admin audit-export verify
    """
    session: Session = context.obj
    try:
        if archive is None:
            files = _files(sys.stdin.buffer)
        else:
            with archive.open("rb") as stream:
                files = _files(stream)
    except (OSError, tarfile.TarError) as error:
        raise ArchiveUnreadableError(f"no tar archive of an export: {error}") from error
    return asyncio.run(_verify(session, files, instance))


def _files(stream: BinaryIO) -> dict[str, bytes]:
    """Files by `<tenant>/<file>`, without the hidden ones that a killed consumer leaves beside them."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts[-2:]
            content = archive.extractfile(member) if member.isfile() and not parts[-1].startswith(".") else None
            if content is not None:
                found["/".join(parts)] = content.read()
    return found


async def _verify(session: Session, files: Mapping[str, bytes], instance: str | None) -> Outcome:
    problems = verify_export(files)
    async with session.database() as connection:
        segments = [row for row in await exported_segments(connection, instance) if row["is_written"]]
    for row in segments:
        name = f"{row['tenant_id']}/{row['first_sequence']:012d}-{row['last_sequence']:012d}.jsonl"
        content = files.get(name)
        if content is None:
            problems.append(f"{name}: was written by {row['instance_id']} and is not here")
        elif hashlib.sha256(content).hexdigest() != row["content_sha256"]:
            problems.append(f"{name}: is not what the rows say")
    records = sum(content.count(b"\n") for name, content in files.items() if name.endswith(".jsonl"))
    return Outcome(
        problems=problems[:_SHOWN],
        data={"files": len(files), "records": records, "segments": len(segments), "problems": len(problems)},
        exit_code=EXIT_FAILED if problems else 0,
    )
