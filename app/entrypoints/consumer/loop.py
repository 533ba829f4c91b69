"""A consumer group's one loop: poll, validate, apply in one transaction with the position, go on.

PostgreSQL's position decides. Each transaction moves it by compare-and-set, so a position that an operator, a restore
or another consumer moved is noticed at the next batch and followed, without a restart.

A partition halts at an event that cannot be applied: the event is retried with backoff, metric and STATUS name it, the
other partitions go on. Nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from app.application.projections import ProjectionUnitOfWork, Tally
from app.messaging.inbox import EventSource, Partition, PositionLost, PositionMoved, Record
from app.messaging.retry import Backoff, Poison, Unavailable
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.metrics import ConsumerMetrics
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown

_POLL_PATIENCE = 1.0
_LAG_INTERVAL = 5.0
_LAG_PATIENCE = 3.0
_log = get_logger(__name__)

EventT = TypeVar("EventT")


@dataclass(frozen=True, slots=True)
class ConsumerGroup(Generic[EventT]):
    """What a group does with the records of its topics.

    Args:
        name: the group's name in contracts/topics.
        read: validates one record; raises Poison.
        apply: writes a batch's effects in the given transaction.
    """

    name: str
    read: Callable[[Record], EventT]
    apply: Callable[[ProjectionUnitOfWork, Sequence[EventT]], Awaitable[Tally]]


class ConsumerStore(Protocol):
    """The group's positions and transactions."""

    async def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]: ...
    def transaction(self) -> AbstractAsyncContextManager[ProjectionUnitOfWork]: ...


@dataclass(frozen=True, slots=True)
class _Halt:
    """Where a partition waits and why; `retry_at` is monotonic time, None while the event is being tried again."""

    offset: int
    reason: str
    failures: int
    retry_at: float | None


class Consumer(Generic[EventT]):
    """Applies a group's events until asked to stop.

    Args:
        group: what to do with records.
        store: where positions and effects are.
        shutdown: the request to stop.
        metrics: what is shown of it.
        notifier: the service manager.
        clock: monotonic time.
        halt_backoff: how long a partition rests before its event is tried again.
        outage_backoff: how long everything waits when Kafka or PostgreSQL cannot be used at all.
    """

    def __init__(
        self,
        *,
        group: ConsumerGroup[EventT],
        store: ConsumerStore,
        shutdown: Shutdown,
        metrics: ConsumerMetrics,
        notifier: Notifier,
        clock: Clock,
        halt_backoff: Backoff,
        outage_backoff: Backoff,
    ) -> None:
        self._group = group
        self._store = store
        self._shutdown = shutdown
        self._metrics = metrics
        self._notifier = notifier
        self._clock = clock
        self._halt_backoff = halt_backoff
        self._outage_backoff = outage_backoff
        self._stored: dict[Partition, int | None] = {}
        self._halts: dict[Partition, _Halt] = {}
        self._lag_at = clock.monotonic()
        self._status = ""

    async def load_positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        """Answer where the partitions now assigned go on: what PostgreSQL says, whatever Kafka remembers."""
        self._stored = dict(await self._store.positions(partitions))
        # Assigned anew, no partition is paused any more; one whose event is still there halts again.
        self._halts.clear()
        return self._stored

    async def run(self, source: EventSource) -> None:
        """Poll and apply until asked to stop; an outage is waited out, never a reason to end."""
        failures = 0
        while not self._shutdown.requested:
            try:
                await self._pass(source)
            except Unavailable as error:
                failures += 1
                _log.warning("consumer_waits", dependency=error.dependency, reason=error.reason, failures=failures)
                self._show(f"{error}; waiting since {failures} tries")
                # While events wait for the database they are behind, and whoever watches must see it.
                with suppress(Unavailable):
                    await self._measure_lag(source)
                await self._rest(self._outage_backoff.delay(failures))
                continue
            if failures:
                _log.info("consumer_goes_on", failures=failures)
            failures = 0
            self._notifier.watchdog()
            self._metrics.paused_partitions(len(self._halts))
            self._show(self._summary())
        with suppress(Unavailable):
            await self._report(source)

    async def _pass(self, source: EventSource) -> None:
        await self._retry_halted(source)
        try:
            polled = await source.poll(_POLL_PATIENCE)
        except PositionLost as lost:
            for partition, offset in lost.partitions.items():
                await self._halt(partition, offset, "Kafka does not have this offset: unread events are gone")
            return
        for partition, records in polled.items():
            try:
                await self._consume(source, partition, records)
            except Unavailable:
                # What this poll returned and nobody applied is read again when the dependency is back.
                await source.seek({unread: self._following(unread, batch[0]) for unread, batch in polled.items()})
                raise
        if self._clock.monotonic() >= self._lag_at:
            self._lag_at = self._clock.monotonic() + _LAG_INTERVAL
            await self._report(source)
            await self._measure_lag(source)

    async def _measure_lag(self, source: EventSource) -> None:
        ends = await source.ends(within=_LAG_PATIENCE)
        self._metrics.lag(sum(max(0, end - (self._stored.get(partition) or 0)) for partition, end in ends.items()))

    async def _consume(self, source: EventSource, partition: Partition, records: Sequence[Record]) -> None:
        pairs: list[tuple[Record, EventT]] = []
        poison: tuple[Record, str] | None = None
        for record in records:
            try:
                pairs.append((record, self._group.read(record)))
            except Poison as error:
                poison = (record, str(error))
                break
        try:
            poison = await self._apply(partition, pairs) or poison
        except PositionMoved as moved:
            _log.warning("position_moved", partition=str(partition), offset=records[0].offset, actual=moved.actual)
            self._stored[partition] = moved.actual
            await source.seek({partition: moved.actual})
            return
        if poison is None:
            self._halts.pop(partition, None)
        else:
            record, reason = poison
            await source.pause(partition)
            await source.seek({partition: record.offset})
            await self._halt(partition, record.offset, reason)

    async def _apply(self, partition: Partition, pairs: Sequence[tuple[Record, EventT]]) -> tuple[Record, str] | None:
        """Apply events and return the one that the database refuses, with its reason; those before it are applied."""
        if not pairs:
            return None
        try:
            await self._commit(partition, pairs)
        except Poison as error:
            if len(pairs) == 1:
                return pairs[0][0], str(error)
        else:
            return None
        # The batch says that one of its events is refused, not which.
        for pair in pairs:
            try:
                await self._commit(partition, [pair])
            except Poison as error:
                return pair[0], str(error)
        return None

    async def _commit(self, partition: Partition, pairs: Sequence[tuple[Record, EventT]]) -> None:
        following = pairs[-1][0].offset + 1
        async with self._store.transaction() as unit:
            await unit.positions.advance(partition, self._stored.get(partition), following)
            tally = await self._group.apply(unit, [event for _, event in pairs])
        self._stored[partition] = following
        self._metrics.event("applied", tally.applied)
        self._metrics.event("duplicate", tally.duplicate)
        self._metrics.event("stale", tally.stale)

    async def _report(self, source: EventSource) -> None:
        reached = {partition: offset for partition, offset in self._stored.items() if offset is not None}
        if reached:
            await source.report(reached)

    def _following(self, partition: Partition, first: Record) -> int:
        stored = self._stored.get(partition)
        return first.offset if stored is None else max(stored, first.offset)

    async def _halt(self, partition: Partition, offset: int, reason: str) -> None:
        known = self._halts.get(partition)
        failures = known.failures + 1 if known and known.offset == offset else 1
        delay = self._halt_backoff.delay(failures)
        self._halts[partition] = _Halt(offset, reason, failures, self._clock.monotonic() + delay)
        self._metrics.event("poison")
        _log.error(
            "partition_halted",
            topic=partition.topic,
            partition=partition.number,
            offset=offset,
            reason=reason,
            failures=failures,
            retry_seconds=round(delay, 1),
        )

    async def _retry_halted(self, source: EventSource) -> None:
        now = self._clock.monotonic()
        due = [
            partition for partition, halt in self._halts.items() if halt.retry_at is not None and halt.retry_at <= now
        ]
        if not due:
            return
        # An operator may have moved the stored position past the event, or a release may have learnt to read it.
        stored = await self._store.positions(due)
        for partition in due:
            halt = self._halts[partition]
            self._stored[partition] = stored[partition]
            if stored[partition] is not None and stored[partition] != halt.offset:
                del self._halts[partition]
            else:
                self._halts[partition] = replace(halt, retry_at=None)
        await source.seek(stored)
        for partition in due:
            await source.resume(partition)

    def _summary(self) -> str:
        if not self._halts:
            return f"reading {len(self._stored)} partitions"
        halted = "; ".join(
            f"{partition} halted at offset {halt.offset}: {halt.reason}"
            for partition, halt in sorted(self._halts.items())
        )
        return f"{halted} ({len(self._stored)} partitions)"

    def _show(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    async def _rest(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            if await self._shutdown.sleep(min(left, self._notifier.feed_interval or left)):
                return
            self._notifier.watchdog()
