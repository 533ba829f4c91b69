"""What a consumer reads and how it remembers: records, positions, and the inbox that makes a repetition harmless.

PostgreSQL owns the position. A group's next offset is written in the transaction of the effects; what Kafka remembers
is advice for tools that watch lag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


Header = tuple[str, bytes | None]
"""Name and value of a record's header; Kafka allows one without a value."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it came from Kafka: whoever may write to the topic decides what is in it."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """An event that a group has seen, and where."""

    event_id: UUID
    partition: Partition
    offset: int


class PositionMoved(Exception):  # noqa: N818 (somebody moved it on purpose; nothing is broken)
    """The stored position is not where this consumer believed to be: another consumer or an operator moved it."""

    def __init__(self, partition: Partition, actual: int | None) -> None:
        super().__init__(f"{partition}: the stored position is {actual}")
        self.partition = partition
        self.actual = actual


class HaltKind(StrEnum):
    """Why a partition rests until an operator decides."""

    POSITION_LOST = "position-lost"
    """Kafka does not have the next event: unread events may be gone."""
    LIMIT = "limit"
    """Too many events failed."""


@dataclass(frozen=True, slots=True)
class KeptHalt:
    """A partition that rests until an operator decides; `stored` is where the group's position was then."""

    kind: HaltKind
    stored: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where assigned partitions go on, None meaning at offset 0, and which of them rest until `resume`."""

    positions: Mapping[Partition, int | None]
    resting: frozenset[Partition] = frozenset()


class RecordUnreadable(Exception):  # noqa: N818 (a property of the log, not of the program)
    """The client cannot take these records apart, so not even their headers are known; where each is."""

    def __init__(self, partitions: Mapping[Partition, int], reason: str) -> None:
        super().__init__(reason)
        self.partitions = partitions


class PositionLost(Exception):  # noqa: N818 (a state of the log, which this process must not repair by jumping)
    """Kafka no longer has, or does not yet have, the offsets the group must read next."""

    def __init__(self, partitions: Mapping[Partition, int]) -> None:
        super().__init__(", ".join(f"{partition}@{offset}" for partition, offset in sorted(partitions.items())))
        self.partitions = partitions


class Inbox(Protocol):
    """The events that a group has handled, for the transaction's tenant."""

    async def add(self, entries: Sequence[InboxEntry]) -> set[UUID]:
        """Remember events and return those not seen before; a repetition is left out, not an error."""
        ...


class Positions(Protocol):
    """The next offset per partition of a group, in the same transaction as the effects."""

    async def advance(self, partition: Partition, expected: int | None, following: int) -> None:
        """Move from `expected`, None where nothing is stored yet, to `following`.

        Raises:
            PositionMoved: the stored position is another one; nothing may be committed.
        """
        ...

    async def hold(self, partition: Partition) -> None:
        """Lock the partition's position until the transaction ends: nobody else works on its events meanwhile."""
        ...


class EventSource(Protocol):
    """Records of one group's partitions. Every method raises `Unavailable` when the broker cannot be asked."""

    async def poll(self, patience: float) -> Mapping[Partition, Sequence[Record]]:
        """Return records by partition, in offset order, waiting up to `patience` seconds for the first.

        Raises:
            PositionLost: positions are out of the log; these partitions are paused, the others go on.
            RecordUnreadable: these partitions have to rest; all are assigned anew at the next poll.
        """
        ...

    async def seek(self, positions: Mapping[Partition, int | None]) -> None:
        """Continue from these offsets; partitions no longer assigned are ignored.

        None, a partition never read, means offset 0 and not the oldest there is: where retention took events that the
        group has not read, its position is lost like any other.
        """
        ...

    async def pause(self, partition: Partition) -> None:
        """Hand out no records of the partition until `resume`."""
        ...

    async def resume(self, partition: Partition) -> None:
        """Hand out records of the partition again."""
        ...

    async def report(self, positions: Mapping[Partition, int]) -> None:
        """Tell Kafka the positions, for those who watch from there; a failure to do so is not one of ours."""
        ...

    async def ends(self, *, within: float) -> Mapping[Partition, int]:
        """Return, within so many seconds, where each assigned partition ends: the offset of its next record."""
        ...

    async def leave(self) -> None:
        """Leave the group, whose others read on; the next poll joins it again."""
        ...

    async def close(self) -> None:
        """Leave the broker."""
        ...
