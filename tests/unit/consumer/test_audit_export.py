from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from app.application.audit_export import (
    GENESIS,
    AuditExporter,
    Backlog,
    ExportRecord,
    Segment,
    export_events,
    manifest_content,
    read_any_event,
    segment_content,
)
from app.application.export_verification import verify_export
from app.messaging.retry import Poison
from tests.support.builders import NOON, SetClock
from tests.unit.consumer.listed_inbox import ListedInbox
from tests.unit.consumer.records import record


@dataclass
class Chain(ListedInbox):
    """A tenant's chain in a list."""

    records: list[ExportRecord] = field(default_factory=list)

    @property
    def export_chain(self) -> Chain:
        return self

    async def head(self) -> tuple[int, str]:
        return (self.records[-1].sequence, self.records[-1].hash) if self.records else (0, GENESIS)

    async def append(self, records: Sequence[ExportRecord]) -> None:
        self.records += records


async def chain(orders: int) -> list[ExportRecord]:
    unit = Chain()
    for order in range(1, orders + 1):
        batch = [read_any_event(record(order=order, seq=seq, offset=seq)) for seq in (1, 2)]
        await export_events(unit, [*batch, batch[0]])
    return unit.records


def segment_of(records: Sequence[ExportRecord]) -> Segment:
    content = segment_content(records)
    return Segment("acme", records[0].sequence, records[-1].sequence, hashlib.sha256(content).hexdigest())


async def export() -> dict[str, bytes]:
    """Ten records in two segments."""
    records = await chain(5)
    segments = [segment_of(records[:6]), segment_of(records[6:])]
    return {
        "acme/manifest.json": manifest_content("acme", segments),
        f"acme/{segments[0].name}": segment_content(records[:6]),
        f"acme/{segments[1].name}": segment_content(records[6:]),
    }


FIRST, SECOND = "acme/000000000001-000000000006.jsonl", "acme/000000000007-000000000010.jsonl"


def resigned(files: dict[str, bytes]) -> dict[str, bytes]:
    """The export with a manifest whose hashes are those of the files, as a forger would leave it."""
    manifest = json.loads(files["acme/manifest.json"])
    for entry in manifest["segments"]:
        entry["sha256"] = hashlib.sha256(files[f"acme/{entry['file']}"]).hexdigest()
    return files | {"acme/manifest.json": json.dumps(manifest).encode()}


async def test_a_sound_export_has_nothing_wrong() -> None:
    assert verify_export(await export()) == []


async def test_a_changed_byte_is_found_even_with_a_new_manifest() -> None:
    files = await export()
    files[FIRST] = files[FIRST].replace(b"1.50", b"1.51", 1)

    assert verify_export(files) == [
        "acme: 000000000001-000000000006.jsonl: its bytes are not those of the manifest",
        "acme: 000000000001-000000000006.jsonl, line 1: the record is not what its hash is of",
    ]
    assert verify_export(resigned(files)) == [
        "acme: 000000000001-000000000006.jsonl, line 1: the record is not what its hash is of"
    ]


async def test_a_record_changed_with_its_hash_breaks_the_chain() -> None:
    files = await export()
    line = files[FIRST].splitlines()[1]
    body = line[line.index(b'"record":') + 9 : -1].replace(b"1.50", b"1.51")
    forged = b'{"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'","record":' + body + b"}"
    files[FIRST] = files[FIRST].replace(line, forged)

    assert verify_export(resigned(files)) == [
        "acme: 000000000001-000000000006.jsonl, line 3: record 3 does not follow the record before it"
    ]


async def test_a_missing_record_is_found() -> None:
    files = await export()
    lines = files[FIRST].splitlines(keepends=True)
    files[FIRST] = b"".join([*lines[:2], *lines[3:]])

    problems = verify_export(resigned(files))

    assert "acme: 000000000001-000000000006.jsonl, line 3: record 4 where 3 should be" in problems


async def test_a_doubled_record_is_found() -> None:
    files = await export()
    lines = files[SECOND].splitlines(keepends=True)
    files[SECOND] = b"".join([*lines, lines[-1]])

    problems = verify_export(resigned(files))

    assert "acme: 000000000007-000000000010.jsonl, line 5: record 10 where 11 should be" in problems
    assert any("is record 10 already" in problem for problem in problems)


@pytest.mark.parametrize(
    ("lost", "problem"),
    [
        (FIRST, "acme: 000000000001-000000000006.jsonl is missing"),
        ("acme/manifest.json", "acme: manifest.json is missing or unreadable"),
    ],
)
async def test_a_missing_file_is_found(lost: str, problem: str) -> None:
    files = await export()
    del files[lost]

    assert verify_export(files) == [problem]


async def test_a_file_that_nobody_planned_is_found() -> None:
    files = await export()
    files["acme/000000000011-000000000011.jsonl"] = b""

    assert verify_export(files) == ["acme: 000000000011-000000000011.jsonl is in no manifest"]


def test_an_event_that_says_two_things_of_itself_is_not_exported() -> None:
    with pytest.raises(Poison, match="identity differs"):
        read_any_event(record(order=1, seq=1, offset=0, header_tenant="globex"))
    with pytest.raises(Poison, match="payload"):
        read_any_event(replace(record(order=1, seq=1, offset=0), value=b"\xff"))


@dataclass
class Store:
    """Rows of one tenant's export in lists."""

    records: list[ExportRecord]
    planned: list[Segment] = field(default_factory=list)

    async def backlog(self) -> list[Backlog]:
        last = self.planned[-1].last_sequence if self.planned else 0
        return [Backlog("acme", len(self.records) - last, NOON)] if last < len(self.records) else []

    async def plan(self, tenant_id: str, limit: int) -> None:
        last = self.planned[-1].last_sequence if self.planned else 0
        self.planned.append(segment_of(self.records[last : last + limit]))

    async def segments(self) -> list[Segment]:
        return list(self.planned)

    async def content(self, segment: Segment) -> bytes:
        return segment_content(self.records[segment.first_sequence - 1 : segment.last_sequence])

    async def mark_written(self, segment: Segment) -> None:
        self.planned = [replace(other, is_written=True) if other == segment else other for other in self.planned]


class KilledError(Exception):
    """The process ends here."""


@dataclass
class Folder:
    """Files in a dictionary; the process may be killed before or after a write."""

    files: dict[str, bytes] = field(default_factory=dict)
    writes_left: int = 100
    is_full: bool = False

    def write(self, folder: str, name: str, content: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        if self.writes_left == 0:
            raise KilledError
        self.writes_left -= 1
        self.files[f"{folder}/{name}"] = content

    def read(self, folder: str, name: str) -> bytes | None:
        return self.files.get(f"{folder}/{name}")


@pytest.mark.parametrize("writes", range(3))
async def test_a_kill_between_any_two_writes_is_mended_by_the_next_start(writes: int) -> None:
    store, folder, clock = Store(await chain(3)), Folder(writes_left=writes), SetClock()
    clock.advance(timedelta(hours=1))
    try:
        await AuditExporter(store, folder, clock, timedelta(minutes=1)).run()
    except KilledError:
        folder.writes_left = 100

    await AuditExporter(store, folder, clock, timedelta(minutes=1)).run()

    assert verify_export(folder.files) == []
    assert all(segment.is_written for segment in store.planned)
    assert sum(len(content.splitlines()) for name, content in folder.files.items() if name.endswith("jsonl")) == 6


async def test_a_full_disk_costs_the_files_time_and_the_group_nothing() -> None:
    store, folder, clock = Store(await chain(1)), Folder(is_full=True), SetClock()
    clock.advance(timedelta(hours=1))
    exporter = AuditExporter(store, folder, clock, timedelta(minutes=1))

    await exporter.run()
    folder.is_full = False
    clock.advance(timedelta(minutes=1))
    await exporter.run()

    assert verify_export(folder.files) == []
    assert len(folder.files) == 2


async def test_young_records_wait_for_their_segment_to_fill() -> None:
    store, folder = Store(await chain(1)), Folder()

    await AuditExporter(store, folder, SetClock(), timedelta(minutes=1)).run()

    assert folder.files == {}
