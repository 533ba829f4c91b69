"""A consumer group's one loop: poll, validate, apply in one transaction with the position, go on.

PostgreSQL's position decides. Each transaction moves it by compare-and-set, so a position that an operator, a restore
or another consumer moved is noticed at the next batch and followed, without a restart.

An event that cannot be applied parks its aggregate: it is tried again with growing pauses while everything else flows,
and given up on as a dead letter after its last try. What comes later of the same aggregate waits behind it, in order.
When more events fail than the group's limit allows, it is not the events that are wrong: the partition halts where it
is, loudly, and nothing more is set aside. It also halts where Kafka no longer has the next event. Both are rows: such a
partition rests until an operator decides, over restarts and rebalances. Nothing is skipped.

A consumer whose colour does not work leaves the group, reads nothing, and asks again every few seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from app.application.consumption import ReadEvent, Tally, TenantUnit
from app.messaging.cloudevents import traceparent_of
from app.messaging.colours import Standing
from app.messaging.inbox import (
    Assignment,
    EventSource,
    HaltKind,
    KeptHalt,
    Partition,
    PositionLost,
    PositionMoved,
    Positions,
    Record,
    RecordUnreadable,
)
from app.messaging.parking import (
    UNATTRIBUTED,
    Category,
    Failure,
    GroupState,
    ParkedEvent,
    ParkedEvents,
    ParkedName,
    ParkedState,
    aggregate_key,
    event_id_of,
    failure_of,
)
from app.messaging.retry import Backoff, Unavailable
from app.runtime.clock import Clock
from app.runtime.ids import Ids
from app.runtime.logging import get_logger
from app.runtime.metrics import ConsumerMetrics
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown
from app.runtime.tracing import now, record

_POLL_PATIENCE = 1.0
_MEASURE_INTERVAL = 5.0
_LAG_PATIENCE = 3.0
_RETRY_BATCH = 20
_LOST = "Kafka does not have this offset: unread events are gone"
_log = get_logger(__name__)

EventT = TypeVar("EventT", bound=ReadEvent)


class GroupUnit(TenantUnit, Protocol):
    """One transaction over a group's position, inbox, effects and parked events."""

    @property
    def positions(self) -> Positions: ...
    @property
    def parked(self) -> ParkedEvents: ...


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """How often an event is tried, how long it rests in between, and how many may fail before the group stops."""

    max_attempts: int
    backoff: Backoff
    dead_letter_limit: int
    dead_letter_window: timedelta


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
    apply: Callable[[Any, Sequence[EventT]], Awaitable[Tally]]


class ConsumerStore(Protocol):
    """The group's positions, transactions and parked events."""

    async def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]: ...
    async def due(self, partitions: Sequence[Partition], limit: int) -> Sequence[ParkedName]: ...
    async def state(self, window: timedelta) -> GroupState: ...
    async def halts(self, partitions: Sequence[Partition]) -> Mapping[Partition, KeptHalt]: ...
    async def halt(self, partition: Partition, halt: KeptHalt) -> None: ...
    async def lift(self, partition: Partition) -> None: ...
    def transaction(self) -> AbstractAsyncContextManager[GroupUnit]: ...


Chore = Callable[[], Awaitable[None]]
"""Something a group does between two polls; it decides by itself whether it is time, and may raise Unavailable."""


@dataclass(frozen=True, slots=True)
class _Item(Generic[EventT]):
    """A record and the event in it, or why there is none."""

    record: Record
    key: str
    event: EventT | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class _Halt:
    """Where a partition waits and why; `retry_at` is monotonic time, None while the event is being tried again.

    One without a `kind` is tried again by itself. One with a kind waits for an operator; it is `kept` once it is a row.
    """

    offset: int
    reason: str
    failures: int
    retry_at: float | None
    kind: HaltKind | None = None
    kept: bool = False


class Consumer(Generic[EventT]):
    """Applies a group's events until asked to stop.

    Args:
        group: what to do with records.
        policy: what to do with events that fail.
        store: where positions and effects are.
        standing: whether this consumer may work.
        publish_dead_letters: brings dead letters to their topic.
        chores: what else the group does between two polls.
        ids: identifiers of dead letters.
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
        policy: GroupPolicy,
        store: ConsumerStore,
        standing: Standing,
        publish_dead_letters: Chore,
        chores: Sequence[Chore],
        ids: Ids,
        shutdown: Shutdown,
        metrics: ConsumerMetrics,
        notifier: Notifier,
        clock: Clock,
        halt_backoff: Backoff,
        outage_backoff: Backoff,
    ) -> None:
        self._group = group
        self._policy = policy
        self._store = store
        self._standing = standing
        self._stands_by = False
        self._publish_dead_letters = publish_dead_letters
        self._chores = chores
        self._ids = ids
        self._shutdown = shutdown
        self._metrics = metrics
        self._notifier = notifier
        self._clock = clock
        self._halt_backoff = halt_backoff
        self._outage_backoff = outage_backoff
        self._stored: dict[Partition, int | None] = {}
        self._halts: dict[Partition, _Halt] = {}
        self._measure_at = clock.monotonic()
        self._state = GroupState()
        # Whether there may be parked events or unpublished dead letters: an idle group asks every few seconds only.
        self._has_leftovers = True
        self._status = ""

    async def load_positions(self, partitions: Sequence[Partition]) -> Assignment:
        """Answer where the partitions now assigned go on: what PostgreSQL says, whatever Kafka remembers.

        What this consumer halted itself and still has goes on resting; of the others the rows say which rest.
        """
        stored = dict(await self._store.positions(partitions))
        kept = await self._store.halts(partitions)
        now = self._clock.monotonic()
        halts = {partition: halt for partition, halt in self._halts.items() if partition in stored}
        for partition, halt in kept.items():
            if partition not in halts:
                halts[partition] = _Halt(stored[partition] or 0, halt.reason, 0, now, halt.kind, kept=True)
        self._stored, self._halts = stored, halts
        resting = frozenset(partition for partition, halt in halts.items() if halt.retry_at is not None)
        return Assignment(stored, resting)

    async def run(self, source: EventSource) -> None:
        """Poll and apply until asked to stop; an outage is waited out, never a reason to end."""
        failures = 0
        while not self._shutdown.requested:
            try:
                if await self._standing.may_work():
                    self._stands_by = False
                    await self._pass(source)
                else:
                    await self._stand_by(source)
            except Unavailable as error:
                failures += 1
                _log.warning("consumer_waits", dependency=error.dependency, reason=error.reason, failures=failures)
                self._show(f"{error}; waiting since {failures} tries")
                # What was refused may have been, because somebody else works now.
                self._standing.doubt()
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
                self._halt(partition, offset, _LOST, HaltKind.POSITION_LOST)
            await self._keep_halts()
            return
        except RecordUnreadable as unreadable:
            for partition, offset in unreadable.partitions.items():
                self._halt(partition, offset, f"Kafka's client cannot read this record: {unreadable}")
            return
        for partition, records in polled.items():
            try:
                await self._consume(source, partition, records)
            except Unavailable:
                # What this poll returned and nobody applied is read again when the dependency is back.
                await source.seek({unread: self._following(unread, batch[0]) for unread, batch in polled.items()})
                raise
        if self._has_leftovers:
            await self._retry_parked()
            await self._publish_dead_letters()
        for chore in self._chores:
            await chore()
        if self._clock.monotonic() >= self._measure_at:
            self._measure_at = self._clock.monotonic() + _MEASURE_INTERVAL
            await self._report(source)
            await self._measure_parked()
            await self._measure_lag(source)

    async def _stand_by(self, source: EventSource) -> None:
        """Leave the partitions to those whose colour works: what they stand at and wait for is theirs to say."""
        if not self._stands_by:
            await source.leave()
            _log.info("group_left", partitions=sorted(map(str, self._stored)))
            self._stored, self._halts = {}, {}
            self._metrics.lag(0)
            self._stands_by = True
        self._show(self._summary())
        await self._rest(self._standing.look_in)

    async def _measure_lag(self, source: EventSource) -> None:
        ends = await source.ends(within=_LAG_PATIENCE)
        self._metrics.lag(sum(max(0, end - (self._stored.get(partition) or 0)) for partition, end in ends.items()))

    async def _measure_parked(self) -> None:
        self._state = state = await self._store.state(self._policy.dead_letter_window)
        self._has_leftovers = bool(state.parked_events or state.unpublished_dead_letters)
        oldest = state.oldest_parked_at
        self._metrics.parked(
            aggregates=state.parked_aggregates,
            events=state.parked_events,
            dead_letters=state.dead_letters,
            oldest_age_seconds=max(0.0, (self._clock.now() - oldest).total_seconds()) if oldest else 0.0,
        )

    async def _consume(self, source: EventSource, partition: Partition, records: Sequence[Record]) -> None:
        try:
            halted = await self._apply(partition, [self._read(record) for record in records])
        except PositionMoved as moved:
            _log.warning("position_moved", partition=str(partition), offset=records[0].offset, actual=moved.actual)
            self._stored[partition] = moved.actual
            await source.seek({partition: moved.actual})
            return
        if halted is None:
            self._halts.pop(partition, None)
        else:
            record, reason, kind = halted
            await source.pause(partition)
            await source.seek({partition: record.offset})
            self._halt(partition, record.offset, reason, kind)
            await self._keep_halts()

    def _read(self, record: Record) -> _Item[EventT]:
        try:
            return _Item(record, aggregate_key(record), self._group.read(record), None)
        except Exception as error:  # noqa: BLE001 - whatever reading raises is this event's failure
            return _Item(record, aggregate_key(record), None, failure_of(error, is_reading=True))

    async def _apply(
        self, partition: Partition, items: Sequence[_Item[EventT]]
    ) -> tuple[Record, str, HaltKind | None] | None:
        """Apply or set aside each event; return the one where the partition has to halt, with the reason."""
        if all(item.failure is None for item in items) and await self._try(partition, items) is None:
            return None
        # The batch says that one of its events fails, not which.
        for item in items:
            failure = item.failure or await self._try(partition, [item])
            if failure is None:
                continue
            try:
                reason = await self._set_aside(partition, item, failure)
            except (PositionMoved, Unavailable):
                raise
            except Exception as error:  # noqa: BLE001 - otherwise one event would end every member of the group in turn
                return item.record, f"the event cannot be set aside: {type(error).__name__}: {error}", None
            if reason is not None:
                return item.record, reason, HaltKind.LIMIT
        return None

    async def _try(self, partition: Partition, items: Sequence[_Item[EventT]]) -> Failure | None:
        """Apply readable events in one transaction with the position; those of parked aggregates queue up instead.

        Raises:
            PositionMoved, Unavailable: nothing was applied, for reasons that are none of the events' own.
        """
        following, started = items[-1].record.offset + 1, now()
        try:
            async with self._store.transaction() as unit:
                await unit.positions.advance(partition, self._stored.get(partition), following)
                parked = await unit.parked.among(partition.topic, list({item.key for item in items}))
                for item in items:
                    if item.key in parked:
                        await unit.parked.add(_parked(item, ParkedState.WAITING), timedelta())
                events = [item.event for item in items if item.event is not None and item.key not in parked]
                tally = await self._group.apply(unit, events) if events else Tally()
        except (PositionMoved, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the handler raises is the failure of one of these events
            for item in items:
                self._trace(item, started, type(error).__name__)
            return failure_of(error)
        for item in items:
            self._trace(item, started, "queued behind a parked event" if item.key in parked else None)
        self._stored[partition] = following
        self._count(tally)
        queued = sum(item.key in parked for item in items)
        self._metrics.event("queued", queued)
        self._has_leftovers = self._has_leftovers or queued > 0
        return None

    async def _set_aside(self, partition: Partition, item: _Item[EventT], failure: Failure) -> str | None:
        """Park an event with its aggregate and go on behind it, or say why the partition must halt instead."""
        following = item.record.offset + 1
        state = await self._store.state(self._policy.dead_letter_window)
        is_limit_reached = state.failing >= self._policy.dead_letter_limit
        is_hopeless = failure.category is Category.MALFORMED or self._policy.max_attempts == 1
        event = _parked(item, ParkedState.RETRYING, failure)
        async with self._store.transaction() as unit:
            await unit.positions.hold(partition)
            is_behind = item.key in await unit.parked.among(partition.topic, [item.key])
            if is_limit_reached and not is_behind:
                return (
                    f"{state.failing} events failed within {self._policy.dead_letter_window}, the limit is "
                    f"{self._policy.dead_letter_limit}; this one: {failure.detail}"
                )
            await unit.positions.advance(partition, self._stored.get(partition), following)
            if is_behind:
                await unit.parked.add(_parked(item, ParkedState.WAITING), timedelta())
            else:
                await unit.parked.add(event, timedelta(seconds=self._policy.backoff.delay(1)))
                if is_hopeless:
                    await unit.parked.give_up(event, failure, self._ids.new())
        self._stored[partition] = following
        self._has_leftovers = True
        self._metrics.event("queued" if is_behind else "dead" if is_hopeless else "parked")
        if not is_behind:
            self._log_failure("dead_letter" if is_hopeless else "event_parked", event, failure)
        return None

    async def _retry_parked(self) -> None:
        """Try what is due; an aggregate whose first event succeeds is worked off to its end or to its next failure."""
        for name in await self._store.due(list(self._stored), _RETRY_BATCH):
            following: ParkedName | None = name
            while following is not None and not self._shutdown.requested:
                following = await self._retry(following)
                self._notifier.watchdog()

    async def _retry(self, name: ParkedName) -> ParkedName | None:
        """Try one parked event and return the one behind it, if that may be tried now."""
        try:
            async with self._store.transaction() as unit:
                await unit.positions.hold(name.partition)
                event = await unit.parked.get(name)
                if event is None or event.state not in {ParkedState.RETRYING, ParkedState.DISCARDED}:
                    return None
                tally = Tally()
                if event.state is ParkedState.RETRYING:
                    tally = await self._group.apply(unit, [self._group.read(event.record)])
                following = await unit.parked.settle(event)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the handler raises is this event's failure
            await self._note_failure(name, error)
            return None
        self._count(tally)
        _log.info("parked_event_settled", place=f"{name.partition}@{name.offset}", state=event.state)
        return following

    async def _note_failure(self, name: ParkedName, error: Exception) -> None:
        async with self._store.transaction() as unit:
            await unit.positions.hold(name.partition)
            event = await unit.parked.get(name)
            if event is None or event.state is not ParkedState.RETRYING:
                return
            tried = replace(event, attempts=event.attempts + 1)
            failure = failure_of(error, is_reading=not self._is_readable(event.record))
            is_hopeless = failure.category is Category.MALFORMED or tried.attempts >= self._policy.max_attempts
            if is_hopeless:
                await unit.parked.give_up(tried, failure, self._ids.new())
            else:
                await unit.parked.fail(event, failure, timedelta(seconds=self._policy.backoff.delay(tried.attempts)))
        self._metrics.event("dead" if is_hopeless else "failed")
        self._log_failure("dead_letter" if is_hopeless else "retry_failed", tried, failure)

    def _is_readable(self, record: Record) -> bool:
        return self._read(record).failure is None

    def _trace(self, item: _Item[EventT], started: int, error: str | None) -> None:
        """Leave a span of one event of a batch in the trace in which it was committed."""
        record(
            f"apply {self._group.name}",
            "consumer",
            parent=traceparent_of(item.record.headers),
            started=started,
            attributes={
                "messaging.system": "kafka",
                "cpq.event_id": str(event_id_of(item.record)),
                "cpq.place": f"{item.record.partition}@{item.record.offset}",
            },
            error=error,
        )

    def _count(self, tally: Tally) -> None:
        self._metrics.event("applied", tally.applied)
        self._metrics.event("duplicate", tally.duplicate)
        self._metrics.event("stale", tally.stale)

    def _log_failure(self, what: str, event: ParkedEvent, failure: Failure) -> None:
        _log.error(
            what,
            topic=event.record.partition.topic,
            partition=event.record.partition.number,
            offset=event.record.offset,
            aggregate_key=event.aggregate_key,
            event_id=str(event.event_id),
            attempts=event.attempts,
            error_code=failure.code,
            error_category=failure.category,
            reason=failure.detail,
        )

    async def _report(self, source: EventSource) -> None:
        reached = {partition: offset for partition, offset in self._stored.items() if offset is not None}
        if reached:
            await source.report(reached)

    def _following(self, partition: Partition, first: Record) -> int:
        stored = self._stored.get(partition)
        return first.offset if stored is None else max(stored, first.offset)

    def _halt(self, partition: Partition, offset: int, reason: str, kind: HaltKind | None = None) -> None:
        known = self._halts.get(partition)
        failures = known.failures + 1 if known and known.offset == offset else 1
        delay = self._halt_backoff.delay(failures)
        is_kept = known is not None and known.kept and known.kind is kind
        self._halts[partition] = _Halt(offset, reason, failures, self._clock.monotonic() + delay, kind, is_kept)
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
        await self._keep_halts()
        stored, kept = await self._store.positions(due), await self._store.halts(due)
        state = await self._store.state(self._policy.dead_letter_window)
        for partition in due:
            halt, row = self._halts[partition], kept.get(partition)
            is_moved = stored[partition] not in {None, halt.offset} if row is None else stored[partition] != row.stored
            is_settled = halt.kind is HaltKind.LIMIT and state.failing < self._policy.dead_letter_limit
            if row is not None and not is_moved and not is_settled:
                self._halt(partition, halt.offset, halt.reason, row.kind)
                continue
            if row is not None:
                await self._store.lift(partition)
            self._stored[partition] = stored[partition]
            await source.seek({partition: stored[partition]})
            await source.resume(partition)
            if is_moved or row is not None:
                del self._halts[partition]
            else:
                self._halts[partition] = replace(halt, retry_at=None, kept=False)

    async def _keep_halts(self) -> None:
        """Write down which partitions wait for an operator; what cannot be written now is written before the next try."""
        for partition, halt in self._halts.items():
            if halt.kind is not None and not halt.kept:
                await self._store.halt(partition, KeptHalt(halt.kind, self._stored.get(partition), halt.reason))
                self._halts[partition] = replace(halt, kept=True)

    def _summary(self) -> str:
        if self._stands_by:
            return self._standing.status
        reading = f"reading {len(self._stored)} partitions"
        if self._state.parked_aggregates:
            reading += f"; {self._state.parked_aggregates} aggregates parked, {self._state.dead_letters} dead letters"
        if not self._halts:
            return reading
        halted = "; ".join(
            f"{partition} halted at offset {halt.offset}: {halt.reason}"
            for partition, halt in sorted(self._halts.items())
        )
        return f"{halted} ({reading})"

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


def _parked(item: _Item[Any], state: ParkedState, failure: Failure | None = None) -> ParkedEvent:
    return ParkedEvent(
        record=item.record,
        tenant_id=item.event.tenant_id if item.event is not None else UNATTRIBUTED,
        aggregate_key=item.key,
        event_id=event_id_of(item.record),
        state=state,
        attempts=0 if failure is None else 1,
        failure=failure,
    )
