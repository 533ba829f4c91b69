"""What migrations cost on a clone, held to the budget that each has in its head. Measures nothing itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.application.migration_header import Budget

_MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
"""PostgreSQL's table locks, the weakest first."""

BLOCKING = frozenset(_MODES[_MODES.index("ShareLock") :])
"""Those that whoever reads or writes rows waits for."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the locks of the session that migrates: table and mode of each; `at` is in monotonic seconds."""

    at: float
    locks: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TableLock:
    """What was held on one table.

    Args:
        table: its name.
        strongest: the strongest mode that was seen.
        held_ms: for how long that was held without a break, at least.
        blocking_ms: for how long a lock was held that readers or writers wait for; 0 where none was.
    """

    table: str
    strongest: str
    held_ms: int
    blocking_ms: int


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One migration on the clone.

    Args:
        migration: its name.
        duration_ms: how long it ran with its verify script; of a backfill, its longest batch.
        batches: of a backfill.
        rows_changed: by a backfill.
        locks: by table.
        samples: how often was looked.
        longest_gap_ms: the longest time in which nobody looked.
    """

    migration: str
    duration_ms: int
    batches: int
    rows_changed: int
    locks: tuple[TableLock, ...]
    samples: int
    longest_gap_ms: int


def table_locks(samples: Sequence[Sample], interval: float) -> tuple[TableLock, ...]:
    """Tell how long each table was locked, from looks at `interval` seconds: a lock counts up to the look after its last one."""
    tables = sorted({table for sample in samples for table, _ in sample.locks})
    found = []
    for table in tables:
        modes = {mode for sample in samples for name, mode in sample.locks if name == table}
        strongest = max(modes, key=_MODES.index)
        held = _longest(samples, interval, {(table, strongest)})
        blocking = _longest(samples, interval, {(table, mode) for mode in BLOCKING})
        found.append(TableLock(table, strongest, held, blocking))
    return tuple(found)


def over_budget(done: Rehearsed, budget: Budget) -> list[str]:
    """Say, a line each, what a migration took beyond its budget, or why that is not known."""
    lock, duration = budget.lock // _MILLISECOND, budget.duration // _MILLISECOND
    problems = [
        f"{done.migration}: held {one.strongest} on {one.table} for {one.blocking_ms} ms, its budget is {lock} ms"
        for one in done.locks
        if one.blocking_ms > lock
    ]
    if done.duration_ms > duration:
        what = "its longest batch ran" if done.batches else "ran"
        problems.append(f"{done.migration}: {what} for {done.duration_ms} ms, its budget is {duration} ms")
    if done.longest_gap_ms > lock:
        problems.append(
            f"{done.migration}: nobody looked for {done.longest_gap_ms} ms, longer than the {lock} ms that a lock may be held: "
            "rehearse again on a machine that is less busy"
        )
    return problems


def longest_gap_ms(moments: Iterable[float]) -> int:
    """The longest time between two moments, in milliseconds."""
    return round(1000 * max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0))


def _longest(samples: Sequence[Sample], interval: float, wanted: set[tuple[str, str]]) -> int:
    """The longest time without a break in which one of some locks was seen, in milliseconds."""
    longest, since = 0.0, None
    for number, sample in enumerate(samples):
        if not sample.locks & wanted:
            since = None
            continue
        since = sample.at if since is None else since
        until = samples[number + 1].at if number + 1 < len(samples) else sample.at + interval
        longest = max(longest, until - since)
    return round(1000 * longest)
