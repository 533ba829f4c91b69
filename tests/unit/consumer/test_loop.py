from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from app.application.consumption import Tally
from app.entrypoints.consumer.loop import Consumer, ConsumerGroup, GroupPolicy
from app.messaging import cloudevents
from app.messaging.colours import Colour
from app.messaging.inbox import (
    HaltKind,
    InboxEntry,
    KeptHalt,
    Partition,
    PositionLost,
    PositionMoved,
    Record,
    RecordUnreadable,
)
from app.messaging.parking import Failure, GroupState, ParkedEvent, ParkedName, ParkedState
from app.messaging.retry import Backoff, Poison, Unavailable
from app.runtime.metrics import ConsumerMetrics
from app.runtime.shutdown import Shutdown
from tests.support.builders import CountingIds
from tests.support.colours import ColouredProcess

P0, P1 = Partition("t", 0), Partition("t", 1)


def record(partition: Partition, offset: int, value: str = "ok", key: str | None = None) -> Record:
    return Record(partition, offset, key.encode() if key else None, value.encode(), ())


@dataclass(frozen=True)
class Event:
    text: str
    entry: InboxEntry
    tenant_id: str = "acme"


def read(item: Record) -> Event:
    value = (item.value or b"").decode()
    if value == "poison":
        raise Poison("cannot be read")
    where = f"{item.partition.number}:{item.offset}:{value}"
    return Event(where, InboxEntry(UUID(int=item.offset), item.partition, item.offset))


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += 0.001
        return self.seconds


@dataclass
class Rows:
    stored: dict[Partition, int] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    parked: list[ParkedEvent] = field(default_factory=list)
    letters: dict[ParkedName, UUID] = field(default_factory=dict)


@dataclass
class Database:
    """Positions, applied and parked events; a transaction that fails leaves no trace."""

    rows: Rows = field(default_factory=Rows)
    outages: int = 0
    refused: set[str] = field(default_factory=set)
    defective: set[str] = field(default_factory=set)
    dues: int = 0
    halted: dict[Partition, KeptHalt] = field(default_factory=dict)
    is_window_over: bool = False

    async def halts(self, partitions: Sequence[Partition]) -> Mapping[Partition, KeptHalt]:
        return {partition: halt for partition, halt in self.halted.items() if partition in partitions}

    async def halt(self, partition: Partition, halt: KeptHalt) -> None:
        self.halted.setdefault(partition, halt)

    async def lift(self, partition: Partition) -> None:
        self.halted.pop(partition)

    @property
    def applied(self) -> list[str]:
        return self.rows.applied

    @property
    def stored(self) -> dict[Partition, int]:
        return self.rows.stored

    async def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        return {partition: self.stored.get(partition) for partition in partitions}

    async def due(self, partitions: Sequence[Partition], limit: int) -> list[ParkedName]:
        self.dues += 1
        return [
            event.name
            for event in self.rows.parked
            if event.state in {ParkedState.RETRYING, ParkedState.DISCARDED} and event.record.partition in partitions
        ][:limit]

    async def state(self, window: timedelta) -> GroupState:
        heads = [event for event in self.rows.parked if event.state is not ParkedState.WAITING]
        return GroupState(
            parked_aggregates=len(heads),
            parked_events=len(self.rows.parked),
            # The window does not move on while a partition rests because of the limit.
            failing=sum(event.attempts > 0 for event in heads) if self.halted or not self.is_window_over else 0,
            dead_letters=sum(event.state is ParkedState.DEAD for event in heads),
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self.outages:
            self.outages -= 1
            raise Unavailable("postgresql", "refused")
        transaction = Transaction(self, deepcopy(self.rows))
        yield transaction
        self.rows = transaction.rows


@dataclass
class Transaction:
    database: Database
    rows: Rows

    @property
    def positions(self) -> Transaction:
        return self

    @property
    def parked(self) -> Transaction:
        return self

    async def advance(self, partition: Partition, expected: int | None, following: int) -> None:
        actual = self.database.stored.get(partition)
        if actual != expected:
            raise PositionMoved(partition, actual)
        self.rows.stored[partition] = following

    async def hold(self, partition: Partition) -> None: ...

    async def among(self, topic: str, keys: Sequence[str]) -> set[str]:
        return {event.aggregate_key for event in self.rows.parked if event.aggregate_key in keys}

    async def add(self, event: ParkedEvent, retry_after: timedelta) -> None:
        if event.aggregate_key == "unparkable":
            raise KeyError(event.aggregate_key)
        self.rows.parked.append(event)

    async def get(self, name: ParkedName) -> ParkedEvent | None:
        return next((event for event in self.rows.parked if event.name == name), None)

    async def fail(self, event: ParkedEvent, failure: Failure, retry_after: timedelta) -> None:
        self._put(replace(event, attempts=event.attempts + 1, failure=failure))

    async def give_up(self, event: ParkedEvent, failure: Failure, dead_letter_id: UUID) -> None:
        self.rows.letters.setdefault(event.name, dead_letter_id)
        self._put(replace(event, state=ParkedState.DEAD, failure=failure))

    async def settle(self, event: ParkedEvent) -> ParkedName | None:
        self.rows.parked = [other for other in self.rows.parked if other.name != event.name]
        queue = [other for other in self.rows.parked if other.aggregate_key == event.aggregate_key]
        if not queue:
            return None
        self._put(replace(queue[0], state=ParkedState.RETRYING))
        return queue[0].name

    def _put(self, event: ParkedEvent) -> None:
        self.rows.parked = [event if other.name == event.name else other for other in self.rows.parked]


async def apply(unit: Transaction, events: Sequence[Event]) -> Tally:
    for event in events:
        if event.text in unit.database.refused:
            raise Poison("value out of range", "sqlstate-22003")
        if event.text in unit.database.defective:
            raise KeyError(event.text)
        unit.rows.applied.append(event.text)
    return Tally(applied=len(events))


def read_whole(item: Record) -> Event:
    cloudevents.decode(item.headers)
    return read(item)


@dataclass
class Log:
    """A topic in lists: hands out from the positions, like Kafka does."""

    consumer: Consumer[Event] | None = None
    records: dict[Partition, list[Record]] = field(default_factory=dict)
    at: dict[Partition, int] = field(default_factory=dict)
    paused: set[Partition] = field(default_factory=set)
    reported: dict[Partition, int] = field(default_factory=dict)
    lost: dict[Partition, int] = field(default_factory=dict)
    unreadable: dict[Partition, int] = field(default_factory=dict)
    rebalance_at: int = 1
    polls: int = 0
    left: int = 0
    stop_after: int = 6
    shutdown: Shutdown = field(default_factory=Shutdown)

    async def poll(self, patience: float) -> Mapping[Partition, Sequence[Record]]:
        await asyncio.sleep(0)
        self.polls += 1
        if self.polls >= self.stop_after:
            self.shutdown.request()
        if self.polls in {1, self.rebalance_at}:
            assert self.consumer is not None
            assignment = await self.consumer.load_positions(list(self.records))
            # Like the client, it keeps what is paused unless it is told.
            self.paused = set(assignment.resting)
            await self.seek(assignment.positions)
        if unreadable := {known: at for known, at in self.unreadable.items() if known not in self.paused}:
            self.paused.clear()
            self.rebalance_at = self.polls + 1
            raise RecordUnreadable(unreadable, "a header is not UTF-8")
        lost = {
            partition: offset
            for partition, offset in self.lost.items()
            if partition not in self.paused and self.at[partition] == offset
        }
        if lost:
            self.paused |= set(lost)
            raise PositionLost(lost)
        polled = {}
        for partition, records in self.records.items():
            batch = [item for item in records if item.offset >= self.at[partition]]
            if batch and partition not in self.paused:
                polled[partition] = batch
                self.at[partition] = batch[-1].offset + 1
        return polled

    async def seek(self, positions: Mapping[Partition, int | None]) -> None:
        self.at |= {partition: offset or 0 for partition, offset in positions.items()}

    async def pause(self, partition: Partition) -> None:
        self.paused.add(partition)

    async def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)

    async def report(self, positions: Mapping[Partition, int]) -> None:
        self.reported |= positions

    async def ends(self, *, within: float) -> Mapping[Partition, int]:
        return dict.fromkeys(self.records, 10)

    async def leave(self) -> None:
        self.left += 1
        self.rebalance_at = self.polls + 1

    async def close(self) -> None: ...


class RecordingNotifier:
    feed_interval = None

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.feeds = 0

    def watchdog(self) -> None:
        self.feeds += 1

    def status(self, text: str) -> None:
        self.statuses.append(text)


@dataclass
class Bench:
    consumer: Consumer[Event]
    log: Log
    database: Database
    notifier: RecordingNotifier
    registry: CollectorRegistry
    process: ColouredProcess

    def figure(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"group": "g", **labels})

    async def run(self) -> None:
        async with asyncio.timeout(5):
            await self.consumer.run(self.log)


@pytest.fixture
def it() -> Bench:
    return bench(Colour.NONE)


def bench(colour: Colour, look_interval: float = 0.01) -> Bench:
    log, database, notifier, registry = Log(), Database(), RecordingNotifier(), CollectorRegistry()

    async def nothing() -> None: ...

    clock = HandClock()
    process = ColouredProcess(clock, colour, "consumer@g", look_interval=look_interval)
    consumer = Consumer(
        group=ConsumerGroup("g", read, apply),
        policy=GroupPolicy(3, Backoff(0.01, 0.01), dead_letter_limit=3, dead_letter_window=timedelta(minutes=10)),
        store=database,  # type: ignore[arg-type]  # transactions with what this loop calls
        standing=process.standing,
        publish_dead_letters=nothing,
        chores=[],
        ids=CountingIds(),
        shutdown=log.shutdown,
        metrics=ConsumerMetrics(registry, "g"),
        notifier=notifier,  # type: ignore[arg-type]
        clock=clock,
        halt_backoff=Backoff(0.01, 0.01),
        outage_backoff=Backoff(0.01, 0.01),
    )
    log.consumer = consumer
    return Bench(consumer, log, database, notifier, registry, process)


async def test_batches_and_their_position_are_committed_together(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1)], P1: [record(P1, 0)]}

    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok", "1:0:ok"]
    assert it.database.stored == it.log.reported == {P0: 2, P1: 1}
    assert it.figure("cpq_consumer_events_total", outcome="applied") == 3
    assert it.figure("cpq_consumer_lag_records") == (10 - 2) + (10 - 1)


async def test_postgresql_says_where_to_go_on(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset) for offset in range(5)]}
    it.database.rows.stored = {P0: 3}

    await it.run()

    assert it.database.applied == ["0:3:ok", "0:4:ok"]


async def test_a_position_moved_back_is_followed_without_a_restart(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1)]}
    poll = it.log.poll

    async def poll_and_restore(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 2:
            it.database.rows.stored = {}  # as a restore from an older backup does
            it.database.applied.clear()
            it.log.records[P0].append(record(P0, 2))
        return await poll(patience)

    it.log.poll = poll_and_restore  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok", "0:2:ok"]


async def test_an_unreadable_event_is_a_dead_letter_at_once_and_the_partition_goes_on(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1, "poison"), record(P0, 2)], P1: [record(P1, 0)]}

    await it.run()

    assert it.database.applied == ["0:0:ok", "0:2:ok", "1:0:ok"]
    assert it.database.stored == {P0: 3, P1: 1}
    [letter] = it.database.rows.parked
    assert (letter.state, letter.tenant_id, letter.attempts) == (ParkedState.DEAD, "?", 1)
    assert it.figure("cpq_consumer_events_total", outcome="dead") == 1


@pytest.mark.parametrize("value", [None, b"poison"])
@pytest.mark.parametrize("key", [None, b"a"])
async def test_a_record_that_nobody_should_have_written_is_a_dead_letter(
    it: Bench, key: bytes | None, value: bytes | None
) -> None:
    odd = Record(P0, 0, key, value, (("ce_id", None), ("", b"\xff")))
    it.log.records = {P0: [odd, record(P0, 1)]}
    it.consumer._group = ConsumerGroup("g", read_whole, apply)

    await it.run()

    [letter, _] = it.database.rows.parked
    assert (letter.record, letter.state, letter.event_id) == (odd, ParkedState.DEAD, None)
    assert letter.failure == Failure("unreadable", "malformed", "header ce_id has no value")  # type: ignore[arg-type]
    assert it.database.stored == {P0: 2}


async def test_an_event_that_cannot_even_be_set_aside_halts_its_partition_alone(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0, "poison", key="unparkable"), record(P0, 1)], P1: [record(P1, 0)]}

    await it.run()

    assert it.database.applied == ["1:0:ok"]
    assert it.database.stored == {P1: 1}
    assert "t[0] halted at offset 0: the event cannot be set aside: KeyError" in it.notifier.statuses[-1]


async def test_a_failing_event_parks_its_aggregate_alone_and_is_given_up_after_its_last_try(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0, key="a"), record(P0, 1, key="b"), record(P0, 2, key="a")]}
    it.database.refused = {"0:0:ok"}
    it.log.stop_after = 10

    await it.run()

    assert it.database.applied == ["0:1:ok"]
    assert it.database.stored == {P0: 3}
    first, second = it.database.rows.parked
    assert (first.record.offset, first.state, first.attempts) == (0, ParkedState.DEAD, 3)
    assert first.failure == Failure("sqlstate-22003", "refused", "value out of range")  # type: ignore[arg-type]
    assert (second.record.offset, second.state) == (2, ParkedState.WAITING)
    assert len(it.database.rows.letters) == 1


async def test_a_parked_aggregate_is_worked_off_in_order_once_its_first_event_succeeds(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset, key="a") for offset in range(4)]}
    it.log.stop_after = 10
    it.database.defective = {"0:1:ok"}
    poll = it.log.poll

    async def poll_and_repair(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 1:
            it.database.defective = set()
        return await poll(patience)

    it.log.poll = poll_and_repair  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok", "0:2:ok", "0:3:ok"]
    assert it.database.rows.parked == []


async def test_a_discarded_event_is_left_out_and_what_waits_behind_it_follows(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0, "poison", key="a"), record(P0, 1, key="a")]}
    it.log.stop_after = 10
    poll = it.log.poll

    async def poll_and_discard(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 3:
            it.database.rows.parked[0] = replace(it.database.rows.parked[0], state=ParkedState.DISCARDED)
        return await poll(patience)

    it.log.poll = poll_and_discard  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["0:1:ok"]
    assert it.database.rows.parked == []


async def test_more_failures_than_the_limit_halt_the_partition_and_set_nothing_more_aside(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset, "poison") for offset in range(9)], P1: [record(P1, 0)]}

    await it.run()

    assert it.database.applied == ["1:0:ok"]
    assert it.database.stored == {P0: 3, P1: 1}
    assert len(it.database.rows.parked) == 3
    assert it.figure("cpq_consumer_paused_partitions") == 1
    assert "t[0] halted at offset 3: 3 events failed within 0:10:00, the limit is 3" in it.notifier.statuses[-1]


async def test_a_halted_partition_goes_on_when_failures_are_settled(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset, key=str(offset)) for offset in range(5)]}
    it.log.stop_after = 60
    it.database.defective = {f"0:{offset}:ok" for offset in range(5)}
    poll = it.log.poll

    async def poll_and_repair(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 3:
            assert it.database.stored == {P0: 3}
            it.database.defective = set()
            rows = it.database.rows
            rows.parked = [replace(event, state=ParkedState.RETRYING, attempts=0) for event in rows.parked]
        return await poll(patience)

    it.log.poll = poll_and_repair  # type: ignore[method-assign]
    await it.run()

    assert sorted(it.database.applied) == [f"0:{offset}:ok" for offset in range(5)]
    assert it.figure("cpq_consumer_paused_partitions") == 0
    assert it.database.rows.parked == []


async def test_an_operator_may_move_the_position_past_a_halt(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset, "poison") for offset in range(4)]}
    it.log.stop_after = 60
    poll = it.log.poll

    async def poll_and_skip(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 3:
            it.database.stored[P0] = 4
        return await poll(patience)

    it.log.poll = poll_and_skip  # type: ignore[method-assign]
    await it.run()

    assert it.figure("cpq_consumer_paused_partitions") == 0


async def test_an_idle_group_asks_for_leftovers_only_when_it_measures(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0)]}
    it.log.stop_after = 50

    await it.run()

    assert it.database.dues == 1


async def test_a_lost_position_halts_and_never_jumps(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 50)], P1: [record(P1, 0)]}
    it.log.lost = {P0: 7}
    it.database.rows.stored = {P0: 7}

    await it.run()

    assert it.database.applied == ["1:0:ok"]
    assert it.database.stored[P0] == 7
    assert "t[0] halted at offset 7: Kafka does not have this offset" in it.notifier.statuses[-1]


async def test_a_lost_position_rests_until_somebody_moves_it_even_where_the_log_has_the_offset_again(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 100)]}
    it.log.lost = {P0: 100}
    it.database.rows.stored = {P0: 100}
    it.log.stop_after = 60
    poll = it.log.poll

    async def poll_and_repair(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 5:
            # A new log under the same name has grown beyond the position.
            it.log.lost = {}
            it.log.records[P0] = [record(P0, offset) for offset in range(102)]
        if it.log.polls == 40:
            assert it.database.applied == []
            it.database.stored[P0] = 0
        return await poll(patience)

    it.log.poll = poll_and_repair  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == [f"0:{offset}:ok" for offset in range(102)]
    assert it.database.halted == {}
    assert it.figure("cpq_consumer_paused_partitions") == 0


async def test_a_first_read_where_events_are_gone_already_rests_until_somebody_sets_the_position(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 50)]}
    it.log.lost = {P0: 0}
    it.log.stop_after = 60
    poll = it.log.poll

    async def poll_and_decide(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 30:
            assert it.database.halted[P0].stored is None
            assert "t[0] halted at offset 0: Kafka does not have this offset" in it.notifier.statuses[-1]
            it.database.stored[P0] = 50
        return await poll(patience)

    it.log.poll = poll_and_decide  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["0:50:ok"]
    assert it.database.halted == {}


@pytest.mark.parametrize("again", ["rebalance", "restart"])
async def test_a_partition_that_rests_goes_on_resting_after(it: Bench, again: str) -> None:
    it.log.records = {P0: [record(P0, 100)], P1: [record(P1, 0)]}
    if again == "restart":
        it.database.halted = {P0: KeptHalt(HaltKind.POSITION_LOST, 100, "unread events are gone")}
    else:
        it.log.lost = {P0: 100}
        it.log.rebalance_at = 3
    it.database.rows.stored = {P0: 100}
    poll = it.log.poll

    async def poll_and_grow(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 2:
            it.log.lost = {}
        return await poll(patience)

    it.log.poll = poll_and_grow  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["1:0:ok"]
    assert it.log.paused == {P0}
    assert it.figure("cpq_consumer_paused_partitions") == 1
    assert "t[0] halted at offset 100" in it.notifier.statuses[-1]


async def test_the_database_down_when_a_position_is_lost_forgets_no_halt(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 100)]}
    it.log.lost = {P0: 100}
    it.database.rows.stored = {P0: 100}
    it.log.stop_after = 30
    keep = it.database.halt
    outages = 2

    async def halt_or_fail(partition: Partition, halt: KeptHalt) -> None:
        nonlocal outages
        it.log.lost = {}
        if outages:
            outages -= 1
            raise Unavailable("postgresql", "refused")
        await keep(partition, halt)

    it.database.halt = halt_or_fail  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == []
    assert it.database.halted[P0].stored == 100


async def test_a_record_that_the_client_cannot_read_halts_its_partition_while_others_flow(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 3)], P1: [record(P1, offset) for offset in range(3)]}
    it.log.unreadable = {P0: 3}
    it.log.stop_after = 40
    poll = it.log.poll

    async def poll_and_mend(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 30:
            assert it.database.applied == ["1:0:ok", "1:1:ok", "1:2:ok"]
            assert "t[0] halted at offset 3: Kafka's client cannot read this record" in it.notifier.statuses[-1]
            it.log.unreadable = {}
        return await poll(patience)

    it.log.poll = poll_and_mend  # type: ignore[method-assign]
    it.database.rows.stored = {P0: 3}
    await it.run()

    assert it.database.applied[-1] == "0:3:ok"


async def test_the_end_of_the_limits_window_ends_no_halt(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset, "poison") for offset in range(9)]}
    it.log.stop_after = 60
    poll = it.log.poll

    async def poll_later(patience: float) -> Mapping[Partition, Sequence[Record]]:
        it.database.is_window_over = it.log.polls > 5
        if it.log.polls == 40:
            assert len(it.database.rows.parked) == 3
            it.database.halted.clear()  # as an operator does who acknowledges
        return await poll(patience)

    it.log.poll = poll_later  # type: ignore[method-assign]
    await it.run()

    assert it.database.stored == {P0: 9}


async def test_the_database_down_loses_nothing_and_is_waited_out(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1)], P1: [record(P1, 0)]}
    it.database.outages = 2

    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok", "1:0:ok"]
    assert any("postgresql: refused" in status for status in it.notifier.statuses)
    assert it.notifier.feeds > 0


async def test_lag_is_measured_while_the_database_is_away(it: Bench) -> None:
    """A consumer that cannot apply is behind, and its figure says so before it can apply again."""
    it.log.records = {P0: [record(P0, 0)]}
    it.database.outages = it.log.stop_after

    await it.run()

    assert it.database.applied == []
    assert it.figure("cpq_consumer_lag_records") == 10


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (looks at what the consumer does by itself)
            await asyncio.sleep(0.005)


async def test_a_consumer_whose_colour_does_not_work_is_no_member_until_its_turn_comes() -> None:
    it = bench(Colour.GREEN)
    it.log.records = {P0: [record(P0, 0)]}
    running = asyncio.create_task(it.run())
    await until(lambda: it.notifier.statuses == ["standing by: processes without a colour work, epoch 0"])
    assert (it.log.polls, it.log.left) == (0, 1)

    await it.process.flip(Colour.GREEN)
    await running

    assert it.database.applied == ["0:0:ok"]
    assert it.log.left == 1


async def test_a_consumer_whose_turn_is_over_leaves_and_says_nothing_of_partitions_that_are_not_its_own(
    it: Bench,
) -> None:
    it.log.records = {P0: [record(P0, 0)]}
    it.log.stop_after = sys.maxsize
    running = asyncio.create_task(it.run())
    await until(lambda: bool(it.database.applied))
    await it.process.flip(Colour.BLUE)
    await until(lambda: it.log.left == 1)
    it.log.reported.clear()
    it.log.shutdown.request()
    await running

    assert it.notifier.statuses[-1] == "standing by: blue works, epoch 1"
    assert it.figure("cpq_consumer_lag_records") == 0
    assert it.log.reported == {}


async def test_a_refused_batch_is_not_applied_here_and_the_consumer_looks_at_once() -> None:
    """The other colour took over between the poll and the commit."""
    it = bench(Colour.NONE, look_interval=3600)
    it.log.records = {P0: [record(P0, 0)]}
    it.log.stop_after = sys.maxsize
    transaction = it.database.transaction

    @asynccontextmanager
    async def fenced() -> AsyncIterator[Transaction]:
        async with transaction() as unit:
            await it.process.flip(Colour.GREEN)
            yield unit
            it.process.write()

    it.database.transaction = fenced  # type: ignore[method-assign]  # as the database would
    running = asyncio.create_task(it.run())
    await until(lambda: it.log.left == 1)
    it.log.shutdown.request()
    await running

    assert it.database.applied == []
    assert it.database.stored == {}
