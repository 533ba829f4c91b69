"""Runs one backfill, batch by batch, at a pace that traffic does not feel, until nothing is left or somebody stops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.application.operations import OperationError
from app.runtime.shutdown import Shutdown

_TRIES = 5
_LOOK_AGAIN_SECONDS = 1.0


class BackfillFailedError(OperationError):
    """It cannot go on; what was committed stays, and the next run goes on from there. The message names it and why."""


class BatchOverBudgetError(Exception):
    """A batch waited too long for a lock or ran too long, and was rolled back."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one committed batch did.

    Args:
        changed: rows.
        after: the last key that it looked at; None when there was none left to look at.
    """

    changed: int
    after: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast a backfill may be.

    Args:
        batch: most rows of a batch.
        pause: seconds between two.
    """

    batch: int
    pause: float


@dataclass(frozen=True, slots=True)
class BackfillEnd:
    """What one run did.

    Args:
        is_done: whether nothing is left and that was verified; False when it was stopped before.
        batches: committed by this run.
        rows_changed: by this run.
        waited: seconds in which it held still for others.
        smallest_batch: the most rows of a batch in the end, fewer than asked for where batches went over their budget.
    """

    is_done: bool
    batches: int
    rows_changed: int
    waited: float
    smallest_batch: int


class Backfill(Protocol):
    """One backfill on a database."""

    @property
    def name(self) -> str:
        """The migration's."""
        ...

    async def batch(self, most: int) -> Batch:
        """Commit the next batch together with where it ended.

        Raises:
            BatchOverBudgetError: it was rolled back.
        """
        ...

    async def complete(self) -> None:
        """Verify that nothing is left and enter it into the ledger, in one transaction.

        Raises:
            BackfillFailedError: something is left; the next run starts over.
        """
        ...


class Pace(Protocol):
    """What a backfill holds still for."""

    async def reason(self) -> str:
        """Say what is behind now; empty when nothing is."""
        ...


async def run(backfill: Backfill, pace: Pace, limits: Limits, stop: Shutdown) -> BackfillEnd:
    """Go on where the last run ended. A stop takes effect between batches.

    Raises:
        BackfillFailedError: see there.
    """
    most, batches, changed, waited = limits.batch, 0, 0, 0.0
    while not stop.requested:
        if await pace.reason():
            waited += _LOOK_AGAIN_SECONDS
            await stop.sleep(_LOOK_AGAIN_SECONDS)
            continue
        done, most = await _batch(backfill, most, limits, stop)
        if done is None:
            break
        if done.after is None:
            await backfill.complete()
            return BackfillEnd(is_done=True, batches=batches, rows_changed=changed, waited=waited, smallest_batch=most)
        batches, changed = batches + 1, changed + done.changed
        await stop.sleep(limits.pause)
    return BackfillEnd(is_done=False, batches=batches, rows_changed=changed, waited=waited, smallest_batch=most)


async def _batch(backfill: Backfill, most: int, limits: Limits, stop: Shutdown) -> tuple[Batch | None, int]:
    """Try a batch, with half as many rows after each that went over its budget; none when a stop came between."""
    for attempt in range(1, _TRIES + 1):
        try:
            return await backfill.batch(most), most
        except BatchOverBudgetError as error:
            if attempt == _TRIES:
                raise BackfillFailedError(
                    f"{backfill.name}: {_TRIES} batches in a row went over their budget, the last of {most} rows: {error}"
                ) from error
            most = max(1, most // 2)
            if await stop.sleep(max(limits.pause, _LOOK_AGAIN_SECONDS)):
                break
    return None, most
