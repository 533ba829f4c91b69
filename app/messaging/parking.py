"""Events that could not be applied: set aside with their aggregate, tried again, and given up on as dead letters.

A failing event parks its aggregate: it and every later event of the same key become rows, in order, so that the
partition's position goes on and all other aggregates flow. After too many tries the event is a dead letter; what waits
behind it goes on waiting until an operator has it replayed or discarded. Nothing of it is ever only in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from app.messaging import cloudevents
from app.messaging.inbox import Partition, Record
from app.messaging.retry import Poison

_LONGEST_KEY = 500
_KEY_BEGINNING = 100
UNATTRIBUTED = "?"
"""Tenant of an event that could not be read: no tenant has this name, so nobody's wall is opened for it."""


class Category(StrEnum):
    """What kind of thing is wrong, without any of the event's data."""

    MALFORMED = "malformed"
    """It cannot be read; the same bytes never will be by this release."""
    REFUSED = "refused"
    """The database refuses what it asks for."""
    DEFECT = "defect"
    """The code that applies it failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event could not be applied; `detail` is for operators and never leaves the database."""

    code: str
    category: Category
    detail: str


class ParkedState(StrEnum):
    """Only the first event of an aggregate's queue is anything but waiting."""

    RETRYING = "retrying"
    WAITING = "waiting"
    DEAD = "dead"
    DISCARDED = "discarded"
    """An operator decided to leave it out."""


@dataclass(frozen=True, slots=True)
class ParkedName:
    """Which event: where it was read, and whose row it is."""

    partition: Partition
    offset: int
    tenant_id: str


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event set aside, with the record as it was read; `attempts` counts failed tries."""

    record: Record
    tenant_id: str
    aggregate_key: str
    event_id: UUID | None
    state: ParkedState
    attempts: int = 0
    failure: Failure | None = None

    @property
    def name(self) -> ParkedName:
        """Where it was read and whose row it is."""
        return ParkedName(self.record.partition, self.record.offset, self.tenant_id)


@dataclass(frozen=True, slots=True)
class GroupState:
    """What a group has set aside; `failing` is what was within the limit's window and is not settled."""

    parked_aggregates: int = 0
    parked_events: int = 0
    oldest_parked_at: datetime | None = None
    failing: int = 0
    dead_letters: int = 0
    unpublished_dead_letters: int = 0


class ParkedEvents(Protocol):
    """A group's parked events, in the transaction of the unit of work; tenants are set as rows need it.

    Hold the partition's position before anything else: two consumers of one partition must not work on one queue.
    """

    async def among(self, topic: str, keys: Sequence[str]) -> set[str]:
        """Return those of the keys whose aggregate is parked."""
        ...

    async def add(self, event: ParkedEvent, retry_after: timedelta) -> None:
        """Append to the queue of the aggregate; an event that is there already stays as it is."""
        ...

    async def get(self, name: ParkedName) -> ParkedEvent | None:
        """Read and lock an event; None when it was settled meanwhile."""
        ...

    async def fail(self, event: ParkedEvent, failure: Failure, retry_after: timedelta) -> None:
        """Count a failed try and set the time of the next."""
        ...

    async def give_up(self, event: ParkedEvent, failure: Failure, dead_letter_id: UUID) -> None:
        """Turn into a dead letter; one that exists for the event is opened again under its own id."""
        ...

    async def settle(self, event: ParkedEvent) -> ParkedName | None:
        """Remove an applied or discarded event, close its dead letter, and return the one that is now first."""
        ...


def aggregate_key(record: Record) -> str:
    """The text that events of one aggregate share: the record's key, or its place where it has none.

    A key that is longer than an index takes is known by its beginning and its digest.
    """
    if record.key is None:
        return f"{record.partition}@{record.offset}"
    text = record.key.decode(errors="backslashreplace").replace("\x00", "\\x00")
    if len(text) <= _LONGEST_KEY:
        return text
    return f"{text[:_KEY_BEGINNING]}…{hashlib.sha256(record.key).hexdigest()}"


def event_id_of(record: Record) -> UUID | None:
    """The event's identifier, where its headers hold exactly one.

    Asked about records that nobody could read: whatever else is wrong with the headers, this answers.
    """
    said = [value for name, value in record.headers if name == cloudevents.ID]
    try:
        return UUID(said[0].decode()) if len(said) == 1 and said[0] is not None else None
    except ValueError:
        return None


def failure_of(error: Exception, *, is_reading: bool = False) -> Failure:
    """Say what an error means for the event it came from."""
    if not isinstance(error, Poison):
        return Failure(type(error).__name__, Category.DEFECT, f"{type(error).__name__}: {error}")
    return Failure(error.code, Category.MALFORMED if is_reading else Category.REFUSED, str(error))
