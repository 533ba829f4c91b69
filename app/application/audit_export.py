"""The audit export: every event of a tenant as one chain of records, and files that anybody can check.

The record with its sequence and hash is written in the transaction of the inbox, so each event is in the chain once.
Files are derived from those rows: a segment is planned as a row, then written, then marked, and whatever is missing
after a crash is written again with the very same bytes.

A line of a segment is `{"hash":"<sha256 of the record's text>","record":<record>}`; the record holds its sequence and
the hash of the one before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec

from app.application.consumption import Tally, TenantUnit, apply_by_tenant
from app.messaging import cloudevents
from app.messaging.inbox import InboxEntry, Record
from app.messaging.retry import Poison
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

GENESIS = "0" * 64
"""The hash before a chain's first record."""
MANIFEST = "manifest.json"
SEGMENT_RECORDS = 1000
_log = get_logger(__name__)


class _Claims(msgspec.Struct, rename="camel", frozen=True):
    """What every event's payload says of itself, whatever else it holds."""

    event_id: UUID
    event_type: str
    tenant_id: str
    aggregate_seq: int


_CLAIMS = msgspec.json.Decoder(_Claims)


@dataclass(frozen=True, slots=True)
class ExportEvent:
    """An event of any of our topics, with its payload as it was published."""

    entry: InboxEntry
    tenant_id: str
    event_type: str
    aggregate_seq: int
    key: str
    payload: str


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """One link of a tenant's chain; `body` is the exact text that `hash` is of."""

    sequence: int
    event_id: UUID
    body: str
    hash: str

    @property
    def line(self) -> bytes:
        """The record as it stands in a file."""
        return f'{{"hash":"{self.hash}","record":{self.body}}}\n'.encode()


class ExportChain(Protocol):
    """The chain of the transaction's tenant."""

    async def head(self) -> tuple[int, str]:
        """Lock the chain and return its last sequence and hash; 0 and GENESIS before the first record."""
        ...

    async def append(self, records: Sequence[ExportRecord]) -> None:
        """Add the next records."""
        ...


class ExportUnit(TenantUnit, Protocol):
    """One transaction over a group's inbox and the export chain."""

    @property
    def export_chain(self) -> ExportChain: ...


def read_any_event(record: Record) -> ExportEvent:
    """Validate a record of any of our topics as far as all of them are alike.

    Raises:
        Poison: headers or payload are malformed, or say different things about who the event is and whose it is.
    """
    attributes = cloudevents.decode(record.headers)
    try:
        payload = (record.value or b"").decode()
        claims = _CLAIMS.decode(payload)
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise Poison(f"payload: {error}") from None
    told = (attributes.event_id, attributes.event_type, attributes.tenant_id, attributes.sequence)
    if told != (claims.event_id, claims.event_type, claims.tenant_id, claims.aggregate_seq):
        raise Poison("identity differs between header and payload")
    return ExportEvent(
        entry=InboxEntry(claims.event_id, record.partition, record.offset),
        tenant_id=claims.tenant_id,
        event_type=claims.event_type,
        aggregate_seq=claims.aggregate_seq,
        key=(record.key or b"").decode(errors="backslashreplace"),
        payload=payload,
    )


async def export_events(unit: ExportUnit, events: Sequence[ExportEvent]) -> Tally:
    """Append events to their tenants' chains."""
    return await apply_by_tenant(unit, events, _append)


async def _append(unit: ExportUnit, tenant_id: str, events: Sequence[ExportEvent]) -> int:
    sequence, last_hash = await unit.export_chain.head()
    records: list[ExportRecord] = []
    for event in events:
        sequence += 1
        body = json.dumps(
            {
                "sequence": sequence,
                "previousHash": last_hash,
                "tenantId": tenant_id,
                "eventId": str(event.entry.event_id),
                "eventType": event.event_type,
                "aggregateKey": event.key,
                "aggregateSeq": event.aggregate_seq,
                "topic": event.entry.partition.topic,
                "partition": event.entry.partition.number,
                "offset": event.entry.offset,
                "payload": event.payload,
            },
            separators=(",", ":"),
        )
        last_hash = hashlib.sha256(body.encode()).hexdigest()
        records.append(ExportRecord(sequence, event.entry.event_id, body, last_hash))
    await unit.export_chain.append(records)
    return len(records)


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the export: a run of a tenant's records and the hash of its bytes."""

    tenant_id: str
    first_sequence: int
    last_sequence: int
    content_sha256: str
    is_written: bool = False

    @property
    def name(self) -> str:
        """The file's name within the tenant's folder; names sort like sequences."""
        return f"{self.first_sequence:012d}-{self.last_sequence:012d}.jsonl"


@dataclass(frozen=True, slots=True)
class Backlog:
    """A tenant's records that are in no segment yet."""

    tenant_id: str
    records: int
    oldest_at: datetime


class ExportStore(Protocol):
    """The rows behind the files. Every method raises `Unavailable` when the store cannot be asked."""

    async def backlog(self) -> list[Backlog]:
        """Return tenants with records in no segment."""
        ...

    async def plan(self, tenant_id: str, limit: int) -> None:
        """Make the tenant's next segment, of at most `limit` records, one of this instance's to write."""
        ...

    async def segments(self) -> list[Segment]:
        """Return this instance's segments, tenant by tenant, in order."""
        ...

    async def content(self, segment: Segment) -> bytes:
        """Return the bytes of a segment's file."""
        ...

    async def mark_written(self, segment: Segment) -> None:
        """Note that the file is on disk."""
        ...


class ExportFiles(Protocol):
    """The files. A file appears whole or not at all, and is on disk when a write returns."""

    def write(self, folder: str, name: str, content: bytes) -> None:
        """Write or replace a file."""
        ...

    def read(self, folder: str, name: str) -> bytes | None:
        """Return a file's bytes, None where there is none."""
        ...


def segment_content(records: Sequence[ExportRecord]) -> bytes:
    """The bytes of a segment."""
    return b"".join(record.line for record in records)


def manifest_content(tenant_id: str, segments: Sequence[Segment]) -> bytes:
    """The list of a tenant's segments in this folder."""
    document = {
        "tenantId": tenant_id,
        "segments": [
            {
                "file": segment.name,
                "firstSequence": segment.first_sequence,
                "lastSequence": segment.last_sequence,
                "sha256": segment.content_sha256,
            }
            for segment in segments
        ],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


class AuditExporter:
    """Turns rows into files, and brings files back to what the rows say when it starts.

    Args:
        store: the rows.
        files: where the files go.
        clock: wall time for the age of records, monotonic time for the pace.
        interval: a tenant's records wait this long at most for a segment that is not full.
    """

    def __init__(self, store: ExportStore, files: ExportFiles, clock: Clock, interval: timedelta) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._interval = interval
        self._pause = min(interval.total_seconds(), 10.0)
        self._is_repaired = False
        self._next_at = 0.0

    async def run(self) -> None:
        """Do what is due, at most every few seconds.

        Raises:
            Unavailable: the store cannot be asked.
        """
        if self._clock.monotonic() < self._next_at:
            return
        planned = False
        for backlog in await self._store.backlog():
            is_old = self._clock.now() - backlog.oldest_at >= self._interval
            if is_old or backlog.records >= SEGMENT_RECORDS:
                await self._store.plan(backlog.tenant_id, SEGMENT_RECORDS)
                planned = True
        if planned or not self._is_repaired:
            try:
                await self._write(await self._store.segments())
                self._is_repaired = True
            except OSError as error:
                # The rows are safe; the files come when there is room for them, from a fresh look at all of them.
                self._is_repaired = False
                _log.exception("export_not_written", reason=str(error))
        self._next_at = self._clock.monotonic() + self._pause

    async def _write(self, segments: Sequence[Segment]) -> None:
        for tenant_id in dict.fromkeys(segment.tenant_id for segment in segments):
            own = [segment for segment in segments if segment.tenant_id == tenant_id]
            for segment in own:
                if segment.is_written and self._is_repaired:
                    continue
                await self._write_segment(segment)
            content = manifest_content(tenant_id, own)
            if self._files.read(tenant_id, MANIFEST) != content:
                self._files.write(tenant_id, MANIFEST, content)
            for segment in own:
                if not segment.is_written:
                    await self._store.mark_written(segment)

    async def _write_segment(self, segment: Segment) -> None:
        there = self._files.read(segment.tenant_id, segment.name)
        if there is not None and hashlib.sha256(there).hexdigest() == segment.content_sha256:
            return
        if segment.is_written:
            what = "missing" if there is None else "changed"
            _log.error("export_file_restored", tenant=segment.tenant_id, file=segment.name, was=what)
            if there is not None:
                self._files.write(segment.tenant_id, f"{segment.name}.changed", there)
        self._files.write(segment.tenant_id, segment.name, await self._store.content(segment))
