"""How a backfill runs: to its end, in batches that fit, no faster than others can follow, and no further than it is let."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.application.backfill_run import (
    BackfillEnd,
    BackfillFailedError,
    Batch,
    BatchOverBudgetError,
    Limits,
    Pace,
    run,
)
from app.runtime.shutdown import Shutdown


class Rows:
    """Rows from 1 to `count` to be filled; a batch of more than `most` is over its budget."""

    name = "0031_backfill_note"

    def __init__(self, count: int, most: int = 1000) -> None:
        self.count, self.most = count, most
        self.place, self.sizes, self.completed = 0, list[int](), False

    async def batch(self, most: int) -> Batch:
        if most > self.most:
            raise BatchOverBudgetError("canceling statement due to statement timeout")
        size = min(most, self.count - self.place)
        self.place += size
        self.sizes.append(size)
        return Batch(size, str(self.place) if size else None)

    async def complete(self) -> None:
        self.completed = True


class Waits:
    """Gives a reason to hold still for the first `looks`."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks

    async def reason(self) -> str:
        self.looks -= 1
        return "standby db2 is behind" if self.looks >= 0 else ""


class Stop(Shutdown):
    """Sleeps at once, and is requested after some sleeps."""

    def __init__(self, after: int | None = None) -> None:
        super().__init__()
        self.slept, self._after = list[float](), after

    async def sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        if self._after is not None and len(self.slept) >= self._after:
            self.request()
        return self.requested


def ran(rows: Rows, pace: Pace | None = None, stop: Stop | None = None, batch: int = 10) -> BackfillEnd:
    return asyncio.run(run(rows, pace or Waits(), Limits(batch, 0.1), stop or Stop()))


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (7, [7, 0]), (20, [10, 10, 0]), (23, [10, 10, 3, 0])])
def test_it_ends_where_nothing_is_left_and_is_verified(count: int, sizes: Sequence[int]) -> None:
    rows = Rows(count)

    end = ran(rows)

    assert (end.is_done, end.rows_changed, end.batches) == (True, count, len(sizes) - 1)
    assert rows.sizes == sizes
    assert rows.completed


def test_it_pauses_after_every_batch() -> None:
    stop = Stop()

    ran(Rows(30), stop=stop)

    assert stop.slept == [0.1, 0.1, 0.1]


def test_it_holds_still_while_somebody_is_behind() -> None:
    rows = Rows(10)

    end = ran(rows, Waits(3))

    assert (end.waited, end.is_done) == (3.0, True)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_stop_takes_effect_between_batches_and_what_was_committed_stays(after: int) -> None:
    rows = Rows(100)

    end = ran(rows, stop=Stop(after))

    assert (end.is_done, end.batches, rows.place) == (False, after, after * 10)
    assert not rows.completed
    assert ran(rows).rows_changed == 100 - after * 10


def test_it_can_be_stopped_while_it_holds_still() -> None:
    rows = Rows(10)

    assert not ran(rows, Waits(10**6), Stop(2)).is_done
    assert rows.sizes == []


def test_batches_over_their_budget_become_smaller() -> None:
    rows = Rows(20, most=3)

    end = ran(rows, batch=16)

    assert (end.smallest_batch, end.rows_changed) == (2, 20)


def test_it_gives_up_where_no_batch_fits() -> None:
    rows = Rows(20, most=0)

    with pytest.raises(BackfillFailedError, match="5 batches in a row went over their budget, the last of 1 rows"):
        ran(rows)
    assert not rows.completed
