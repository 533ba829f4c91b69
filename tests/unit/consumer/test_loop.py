from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from app.application.projections import Tally
from app.entrypoints.consumer.loop import Consumer, ConsumerGroup
from app.messaging.inbox import Partition, PositionLost, PositionMoved, Record
from app.messaging.retry import Backoff, Poison, Unavailable
from app.runtime.metrics import ConsumerMetrics
from app.runtime.shutdown import Shutdown

P0, P1 = Partition("t", 0), Partition("t", 1)


def record(partition: Partition, offset: int, value: str = "ok") -> Record:
    return Record(partition, offset, None, value.encode(), ())


def read(item: Record) -> str:
    value = (item.value or b"").decode()
    if value == "poison":
        raise Poison("cannot be read")
    return f"{item.partition.number}:{item.offset}:{value}"


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += 0.001
        return self.seconds


@dataclass
class Database:
    """Positions and applied events; a transaction that fails leaves no trace."""

    stored: dict[Partition, int] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    outages: int = 0
    refused: str | None = None

    async def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        return {partition: self.stored.get(partition) for partition in partitions}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self.outages:
            self.outages -= 1
            raise Unavailable("postgresql", "refused")
        transaction = Transaction(self)
        yield transaction
        self.stored |= transaction.moved
        self.applied += transaction.applied


@dataclass
class Transaction:
    database: Database
    moved: dict[Partition, int] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)

    @property
    def positions(self) -> Transaction:
        return self

    async def advance(self, partition: Partition, expected: int | None, following: int) -> None:
        actual = self.database.stored.get(partition)
        if actual != expected:
            raise PositionMoved(partition, actual)
        self.moved[partition] = following


async def apply(unit: Transaction, events: Sequence[str]) -> Tally:
    for event in events:
        if event == unit.database.refused:
            raise Poison("value out of range")
        unit.applied.append(event)
    return Tally(applied=len(events))


@dataclass
class Log:
    """A topic in lists: hands out from the positions, like Kafka does."""

    consumer: Consumer[str] | None = None
    records: dict[Partition, list[Record]] = field(default_factory=dict)
    at: dict[Partition, int] = field(default_factory=dict)
    paused: set[Partition] = field(default_factory=set)
    reported: dict[Partition, int] = field(default_factory=dict)
    lost: dict[Partition, int] = field(default_factory=dict)
    polls: int = 0
    stop_after: int = 6
    shutdown: Shutdown = field(default_factory=Shutdown)

    async def poll(self, patience: float) -> Mapping[Partition, Sequence[Record]]:
        self.polls += 1
        if self.polls >= self.stop_after:
            self.shutdown.request()
        if self.polls == 1:
            assert self.consumer is not None
            for partition, offset in (await self.consumer.load_positions(list(self.records))).items():
                self.at[partition] = offset or 0
        lost = {partition: offset for partition, offset in self.lost.items() if partition not in self.paused}
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
    consumer: Consumer[str]
    log: Log
    database: Database
    notifier: RecordingNotifier
    registry: CollectorRegistry

    def figure(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"group": "g", **labels})

    async def run(self) -> None:
        async with asyncio.timeout(5):
            await self.consumer.run(self.log)


@pytest.fixture
def it() -> Bench:
    log, database, notifier, registry = Log(), Database(), RecordingNotifier(), CollectorRegistry()
    consumer = Consumer(
        group=ConsumerGroup("g", read, apply),  # type: ignore[arg-type]  # a transaction with what this loop calls
        store=database,  # type: ignore[arg-type]
        shutdown=log.shutdown,
        metrics=ConsumerMetrics(registry, "g"),
        notifier=notifier,  # type: ignore[arg-type]
        clock=HandClock(),
        halt_backoff=Backoff(0.01, 0.01),
        outage_backoff=Backoff(0.01, 0.01),
    )
    log.consumer = consumer
    return Bench(consumer, log, database, notifier, registry)


async def test_batches_and_their_position_are_committed_together(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1)], P1: [record(P1, 0)]}

    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok", "1:0:ok"]
    assert it.database.stored == it.log.reported == {P0: 2, P1: 1}
    assert it.figure("cpq_consumer_events_total", outcome="applied") == 3
    assert it.figure("cpq_consumer_lag_records") == (10 - 2) + (10 - 1)


async def test_postgresql_says_where_to_go_on(it: Bench) -> None:
    it.log.records = {P0: [record(P0, offset) for offset in range(5)]}
    it.database.stored = {P0: 3}

    await it.run()

    assert it.database.applied == ["0:3:ok", "0:4:ok"]


async def test_a_position_moved_back_is_followed_without_a_restart(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1)]}
    poll = it.log.poll

    async def poll_and_restore(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 2:
            it.database.stored = {}  # as a restore from an older backup does
            it.database.applied.clear()
            it.log.records[P0].append(record(P0, 2))
        return await poll(patience)

    it.log.poll = poll_and_restore  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok", "0:2:ok"]


async def test_poison_halts_its_partition_loudly_and_no_other(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1, "poison"), record(P0, 2)], P1: [record(P1, 0)]}

    await it.run()

    assert it.database.applied == ["0:0:ok", "1:0:ok"]
    assert it.database.stored == {P0: 1, P1: 1}
    assert it.figure("cpq_consumer_paused_partitions") == 1
    assert (it.figure("cpq_consumer_events_total", outcome="poison") or 0) >= 1
    assert "t[0] halted at offset 1: cannot be read" in it.notifier.statuses[-1]


async def test_an_event_that_the_database_refuses_halts_after_those_before_it(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1), record(P0, 2)]}
    it.database.refused = "0:1:ok"

    await it.run()

    assert it.database.applied == ["0:0:ok"]
    assert it.database.stored == {P0: 1}
    assert "halted at offset 1: value out of range" in it.notifier.statuses[-1]


async def test_a_halted_partition_goes_on_when_its_event_can_be_applied(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1)]}
    it.log.stop_after = 60
    it.database.refused = "0:0:ok"
    poll = it.log.poll

    async def poll_and_repair(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 3:
            it.database.refused = None
        return await poll(patience)

    it.log.poll = poll_and_repair  # type: ignore[method-assign]
    await it.run()

    assert it.database.applied == ["0:0:ok", "0:1:ok"]
    assert it.figure("cpq_consumer_paused_partitions") == 0
    assert it.notifier.statuses[-1] == "reading 1 partitions"


async def test_an_operator_may_move_the_position_past_a_poison_event(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 0), record(P0, 1, "poison")]}
    it.log.stop_after = 60
    poll = it.log.poll

    async def poll_and_skip(patience: float) -> Mapping[Partition, Sequence[Record]]:
        if it.log.polls == 3:
            it.database.stored[P0] = 2
        return await poll(patience)

    it.log.poll = poll_and_skip  # type: ignore[method-assign]
    await it.run()

    assert it.figure("cpq_consumer_paused_partitions") == 0
    assert it.notifier.statuses[-1] == "reading 1 partitions"


async def test_a_lost_position_halts_and_never_jumps(it: Bench) -> None:
    it.log.records = {P0: [record(P0, 50)], P1: [record(P1, 0)]}
    it.log.lost = {P0: 7}
    it.database.stored = {P0: 7}

    await it.run()

    assert it.database.applied == ["1:0:ok"]
    assert it.database.stored[P0] == 7
    assert "t[0] halted at offset 7: Kafka does not have this offset" in it.notifier.statuses[-1]


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
