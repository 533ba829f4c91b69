"""The record of releases: who did what to which host, each entry sealed by the hash of the one before it.

An entry that was altered, taken out or put in between breaks the chain for everybody who has a later hash: the database, and the copy that
the machine which releases keeps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.application.audit_export import GENESIS


@dataclass(frozen=True, slots=True)
class Place:
    """What a step did to one host.

    Attributes:
        host: its name in the inventory.
        before: the release that the host ran, empty for none.
        after: the release that it runs now.
    """

    host: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Act:
    """What is recorded: a step of a run, or its beginning or end.

    Attributes:
        place: the host it concerned; None for a step of the environment as a whole.
        detail: what else is to be said: why a run failed, whose run goes on.
        evidence: what shows it. Its hash is recorded; it stays with the step.
    """

    run_id: UUID
    release_id: str
    operator: str
    holder: str
    step: str
    state: str
    at: datetime
    place: Place | None = None
    detail: str | None = None
    evidence: Any = None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a record ends."""

    sequence: int = 0
    hash: str = GENESIS


NOTHING = Head()
"""The end of a record that nobody began."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One link; `body` is the exact text that `hash` is of."""

    sequence: int
    body: str
    hash: str

    @property
    def content(self) -> dict[str, Any]:
        """What the entry says."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def sealed(acts: Sequence[Act], head: Head) -> list[Entry]:
    """Return the entries that follow a record's end."""
    entries: list[Entry] = []
    sequence, last = head.sequence, head.hash
    for act in acts:
        sequence += 1
        content = {
            "sequence": sequence,
            "previousHash": last,
            "recordedAt": act.at.isoformat(),
            "runId": str(act.run_id),
            "releaseId": act.release_id,
            "step": act.step,
            "state": act.state,
            "operator": act.operator,
            "holder": act.holder,
            "host": act.place.host if act.place else None,
            "before": act.place.before if act.place else None,
            "after": act.place.after if act.place else None,
            "detail": act.detail,
            "evidenceHash": None if act.evidence is None else hashed(act.evidence),
        }
        body = json.dumps(content, separators=(",", ":"))
        last = hashlib.sha256(body.encode()).hexdigest()
        entries.append(Entry(sequence, body, last))
    return entries


def hashed(evidence: Any) -> str:
    """Return the hash by which evidence is recorded, of its values and not of how they were written down."""
    text = json.dumps(evidence, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def problems(entries: Sequence[Entry]) -> Iterator[str]:
    """Say what is wrong with a whole record, a line each: hashes, order, gaps.

    Args:
        entries: all of them, in the order in which they were kept.
    """
    head = NOTHING
    for entry in entries:
        if entry.sequence != head.sequence + 1:
            yield f"entry {entry.sequence} follows entry {head.sequence}"
        if hashlib.sha256(entry.body.encode()).hexdigest() != entry.hash:
            yield f"entry {entry.sequence} is not what its hash is of"
        elif (content := entry.content)["previousHash"] != head.hash and entry.sequence == head.sequence + 1:
            yield f"entry {entry.sequence} was sealed after another entry {head.sequence} than the one that is here"
        elif content["sequence"] != entry.sequence:
            yield f"entry {entry.sequence} was sealed as entry {content['sequence']}"
        head = Head(entry.sequence, entry.hash)


def unproven(entries: Sequence[Entry], kept: dict[tuple[str, str], Any]) -> Iterator[str]:
    """Name steps whose evidence is not what was recorded last.

    Args:
        entries: the record.
        kept: evidence by run and step, as the journal has it.
    """
    last = {
        (content["runId"], content["step"]): (entry.sequence, content["evidenceHash"])
        for entry in entries
        if (content := entry.content)["evidenceHash"] is not None
    }
    for (run, step), (sequence, recorded) in last.items():
        if hashed(kept.get((run, step))) != recorded:
            yield f"entry {sequence}: the evidence of step {step} is not what was recorded"


def states(entries: Sequence[Entry], run_id: UUID) -> dict[tuple[str, str], str]:
    """Return what each host ran when a run had ended, by step and host: what the record says up to that run's last entry."""
    last = max((entry.sequence for entry in entries if entry.content["runId"] == str(run_id)), default=0)
    return {
        (content["step"], content["host"]): content["after"]
        for entry in entries
        if entry.sequence <= last and (content := entry.content)["host"] and content["state"] == "succeeded"
    }


def differences(before: dict[tuple[str, str], str], after: dict[tuple[str, str], str]) -> list[str]:
    """Say which host runs something else, a line each."""
    return [
        f"{host} {step}: {before.get((step, host)) or 'nothing'} -> {after.get((step, host)) or 'nothing'}"
        for step, host in sorted(before.keys() | after.keys())
        if before.get((step, host)) != after.get((step, host))
    ]
