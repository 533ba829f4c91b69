"""What samples of locks say of a migration, and what is beyond its budget."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.application.migration_header import Budget
from app.application.migration_rehearsal import Rehearsed, Sample, TableLock, longest_gap_ms, over_budget, table_locks

BUDGET = Budget(timedelta(milliseconds=200), timedelta(seconds=5))


def samples(*looks: str) -> list[Sample]:
    """A look every 20 ms; a letter for each lock on one table: A access exclusive, U share update exclusive, R row exclusive."""
    modes = {"A": "AccessExclusiveLock", "U": "ShareUpdateExclusiveLock", "R": "RowExclusiveLock"}
    return [
        Sample(number * 0.02, frozenset(("quote", modes[letter]) for letter in look))
        for number, look in enumerate(looks)
    ]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        (("", "A", "A", "A", ""), TableLock("quote", "AccessExclusiveLock", 60, 60)),
        # One that is still there at the last look is held until the next one would have come.
        (("A",), TableLock("quote", "AccessExclusiveLock", 20, 20)),
        # The longest time without a break counts, and not all of them together.
        (("A", "A", "", "A", ""), TableLock("quote", "AccessExclusiveLock", 40, 40)),
        (("R", "RA", "R", "R"), TableLock("quote", "AccessExclusiveLock", 20, 20)),
        (("U", "U", "UR", "U"), TableLock("quote", "ShareUpdateExclusiveLock", 80, 0)),
    ],
)
def test_a_lock_is_told_by_its_strongest_mode_and_its_longest_time(looks: tuple[str, ...], expected: TableLock) -> None:
    assert table_locks(samples(*looks), 0.02) == (expected,)


def done(*locks: TableLock, duration: int = 100, gap: int = 25, batches: int = 0) -> Rehearsed:
    return Rehearsed("0030_expand_note", duration, batches, 0, locks, 10, gap)


@pytest.mark.parametrize(
    ("rehearsed", "problem"),
    [
        (done(TableLock("quote", "AccessExclusiveLock", 260, 260)), "held AccessExclusiveLock on quote for 260 ms, its budget is 200 ms"),
        (done(duration=5001), "ran for 5001 ms, its budget is 5000 ms"),
        (done(duration=5001, batches=3), "its longest batch ran for 5001 ms, its budget is 5000 ms"),
        (done(gap=201), "nobody looked for 201 ms, longer than the 200 ms that a lock may be held"),
    ],
)  # fmt: skip
def test_what_is_beyond_the_budget_is_named(rehearsed: Rehearsed, problem: str) -> None:
    (one,) = over_budget(rehearsed, BUDGET)

    assert one.startswith(f"0030_expand_note: {problem}")


def test_what_keeps_to_it_is_not() -> None:
    held = TableLock("quote", "AccessExclusiveLock", 200, 200)
    beside_traffic = TableLock("order", "ShareUpdateExclusiveLock", 90_000, 0)

    assert over_budget(done(held, beside_traffic, duration=5000, gap=200), BUDGET) == []


def test_the_longest_time_without_a_look_is_known() -> None:
    assert longest_gap_ms([0.0, 0.02, 0.3, 0.31]) == 280
    assert longest_gap_ms([0.0]) == 0
