"""Checks an audit export by its files alone: hashes, order, gaps, repetitions. Whoever gets the files can do the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.application.audit_export import GENESIS, MANIFEST

_LINE = re.compile(rb'\{"hash":"([0-9a-f]{64})","record":(\{.*\})\}')


def verify_export(files: Mapping[str, bytes]) -> list[str]:
    """Return what is wrong with an export, a line each.

    Args:
        files: content by path, `<tenant>/<file>`; everything that was found, in any order.
    """
    problems: list[str] = []
    for tenant_id in sorted({path.split("/")[0] for path in files}):
        prefix = f"{tenant_id}/"
        own = {path.removeprefix(prefix): content for path, content in files.items() if path.startswith(prefix)}
        problems += [f"{tenant_id}: {problem}" for problem in _TenantExport(tenant_id, own).problems()]
    return problems


class _TenantExport:
    """One tenant's folder, read in the order of its manifest."""

    def __init__(self, tenant_id: str, files: Mapping[str, bytes]) -> None:
        self._tenant_id = tenant_id
        self._files = files
        self._next = 1
        # Empty where the record before is not there to be followed.
        self._last_hash = GENESIS
        self._places: dict[str, int] = {}

    def problems(self) -> Iterator[str]:
        try:
            segments = json.loads(self._files.get(MANIFEST, b""))["segments"]
            names = {str(segment["file"]) for segment in segments}
        except (ValueError, KeyError, TypeError):
            yield f"{MANIFEST} is missing or unreadable"
            return
        yield from (f"{name} is in no manifest" for name in sorted(set(self._files) - {MANIFEST, *names}))
        for segment in segments:
            yield from self._segment_problems(segment)

    def _segment_problems(self, segment: Mapping[str, Any]) -> Iterator[str]:
        name, first, last = segment["file"], segment["firstSequence"], segment["lastSequence"]
        if first != self._next:
            # Another host may hold what lies between; the rows in the database tell.
            yield f"{name}: records {self._next} to {first - 1} are not in this folder"
            self._go_to(first)
        content = self._files.get(name)
        if content is None:
            yield f"{name} is missing"
        else:
            if hashlib.sha256(content).hexdigest() != segment["sha256"]:
                yield f"{name}: its bytes are not those of the manifest"
            for number, line in enumerate(content.splitlines(), start=1):
                yield from (f"{name}, line {number}: {problem}" for problem in self._line_problems(line))
            if self._next != last + 1:
                yield f"{name}: ends at record {self._next - 1}, the manifest says {last}"
        if self._next != last + 1:
            self._go_to(last + 1)

    def _line_problems(self, line: bytes) -> Iterator[str]:
        match = _LINE.fullmatch(line)
        if match is None:
            yield "is no record"
            self._go_to(self._next + 1)
            return
        stated, body = match[1].decode(), match[2]
        if hashlib.sha256(body).hexdigest() != stated:
            yield "the record is not what its hash is of"
            self._go_to(self._next + 1)
            return
        record = json.loads(body)
        sequence, event_id = record["sequence"], record["eventId"]
        if record["tenantId"] != self._tenant_id:
            yield f"belongs to tenant {record['tenantId']}"
        if sequence != self._next:
            yield f"record {sequence} where {self._next} should be"
        elif self._last_hash and record["previousHash"] != self._last_hash:
            yield f"record {sequence} does not follow the record before it"
        if event_id in self._places:
            yield f"event {event_id} is record {self._places[event_id]} already"
        self._places.setdefault(event_id, sequence)
        self._next, self._last_hash = sequence + 1, stated

    def _go_to(self, sequence: int) -> None:
        self._next, self._last_hash = sequence, ""
