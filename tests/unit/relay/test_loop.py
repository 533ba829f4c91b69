from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from app.entrypoints.relay.loop import Pace, Relay
from app.messaging.colours import Colour
from app.messaging.envelope import SHARDS, Envelope
from app.messaging.outbox import (
    Backlog,
    Delivery,
    Leases,
    PayloadContract,
    PendingEvent,
    Published,
    Rejected,
    Settled,
    Settlement,
    Undelivered,
)
from app.messaging.payload_contract import SchemaContract
from app.messaging.retry import Backoff, Unavailable
from app.runtime.metrics import RelayMetrics
from app.runtime.shutdown import Shutdown
from tests.support.colours import ColouredProcess
from tests.support.events import order_event

PACE = Pace(batch_size=10, poll_interval=0.01, lease_duration=timedelta(seconds=15))


def event(number: int, seq: int = 1) -> PendingEvent:
    return PendingEvent(
        Envelope(
            event_id=UUID(int=number * 1000 + seq),
            tenant_id="acme",
            aggregate_type="product_order",
            aggregate_id=UUID(int=number),
            aggregate_seq=seq,
            event_type="OrderAcknowledged",
            topic="oms.order.events.v1",
            partition_key=str(number),
            payload="{}",
            occurred_at=datetime(2026, 11, 22, tzinfo=UTC),
        ),
        attempts=0,
    )


class HandClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += 0.001
        return self.seconds


@dataclass
class FakeStore:
    """An outbox in a list; a claim gives every pending event of the held shards."""

    events: list[PendingEvent]
    settled: list[Settlement] = field(default_factory=list)
    released: Leases | None = None
    fences: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(SHARDS), 1))
    down: list[str] = field(default_factory=list)
    claimed: list[list[int]] = field(default_factory=list)
    judged_anew: list[tuple[list[int], str]] = field(default_factory=list)
    taken_over: dict[int, int] = field(default_factory=dict)

    def _maybe_down(self) -> None:
        if self.down:
            raise Unavailable("postgresql", self.down.pop(0))

    async def take_over(self) -> Leases:
        return self.taken_over

    async def hold(self, leases: Leases, duration: timedelta) -> Leases:
        self._maybe_down()
        return dict(self.fences)

    async def release(self, leases: Leases) -> None:
        self.released = leases

    async def judge_anew(self, leases: Leases, contract: str) -> int:
        self.judged_anew.append((sorted(leases), contract))
        return 1

    async def claim(self, shards: Sequence[int], limit: int) -> list[PendingEvent]:
        self._maybe_down()
        self.claimed.append(list(shards))
        return [pending for pending in self.events if pending.envelope.shard in shards][:limit]

    async def settle(self, leases: Leases, settlements: Sequence[Settlement]) -> Settled:
        self._maybe_down()
        self.settled += settlements
        done = {item.event_id for item in settlements}
        self.events = [pending for pending in self.events if pending.envelope.event_id not in done]
        return Settled(
            published=sum(isinstance(item.delivery, Published) for item in settlements),
            parked=sum(isinstance(item.delivery, Rejected) for item in settlements),
            deferred=sum(isinstance(item.delivery, Undelivered) for item in settlements),
        )

    async def backlog(self) -> Backlog:
        return Backlog(len(self.events), 0.0, 0)


@dataclass
class FakeContract:
    """Refuses the events of some aggregates."""

    refused: set[int] = field(default_factory=set)
    version: str = "contract-1"

    def refusal(self, envelope: Envelope) -> str | None:
        return "not as agreed" if envelope.aggregate_id.int in self.refused else None


@dataclass
class FakePublisher:
    answer: Callable[[Envelope], Delivery] = lambda _: Published(0, 1)
    outages: int = 0
    sent: list[UUID] = field(default_factory=list)
    closed: bool = False

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Delivery]:
        if self.outages:
            self.outages -= 1
            raise Unavailable("kafka", "no brokers")
        self.sent += [envelope.event_id for envelope in envelopes]
        return [self.answer(envelope) for envelope in envelopes]

    async def reach(self) -> None:
        if self.outages:
            self.outages -= 1
            raise Unavailable("kafka", "no brokers")

    async def close(self) -> None:
        self.closed = True


class RecordingNotifier:
    """Counts feeds; stops the relay when asked to after so many."""

    def __init__(self, shutdown: Shutdown, feeds: int) -> None:
        self.feeds = 0
        self.statuses: list[str] = []
        self._shutdown = shutdown
        self._stop_after = feeds

    feed_interval = 0.005

    def watchdog(self) -> None:
        self.feeds += 1
        if self.feeds >= self._stop_after:
            self._shutdown.request()

    def status(self, text: str) -> None:
        self.statuses.append(text)


@dataclass
class Bench:
    relay: Relay
    store: FakeStore
    contract: FakeContract
    publisher: FakePublisher
    notifier: RecordingNotifier
    registry: CollectorRegistry
    clock: HandClock
    process: ColouredProcess

    def figure(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        return self.registry.get_sample_value(name, dict(labels or {}))

    async def run(self) -> None:
        await self.relay.start()
        async with asyncio.timeout(5):
            await self.relay.run()
        await self.relay.stop()


def bench(
    *events: PendingEvent,
    publisher: FakePublisher | None = None,
    feeds: int = 3,
    contract: PayloadContract | None = None,
    colour: Colour = Colour.NONE,
    look_interval: float = 0.01,
) -> Bench:
    shutdown, registry, clock = Shutdown(), CollectorRegistry(), HandClock()
    store, publisher = FakeStore(list(events)), publisher or FakePublisher()
    notifier = RecordingNotifier(shutdown, feeds)
    fake_contract = FakeContract()
    process = ColouredProcess(clock, colour, look_interval=look_interval)
    relay = Relay(
        store=store,
        contract=contract or fake_contract,
        publisher=publisher,
        standing=process.standing,
        wake=asyncio.Event(),
        shutdown=shutdown,
        metrics=RelayMetrics(registry),
        notifier=notifier,  # type: ignore[arg-type]  # the three methods that the loop calls
        clock=clock,
        pace=PACE,
        event_backoff=Backoff(1, 300, chance=lambda: 1.0),
        outage_backoff=Backoff(0.01, 0.01),
    )
    return Bench(relay, store, fake_contract, publisher, notifier, registry, clock, process)


async def test_claimed_events_are_published_and_then_marked() -> None:
    it = bench(event(1), event(2))

    await it.run()

    assert it.publisher.sent == [item.event_id for item in it.store.settled]
    assert it.figure("cpq_relay_published_total") == 2
    assert it.store.released == dict.fromkeys(range(SHARDS), 1)
    assert it.publisher.closed


async def test_an_idle_relay_feeds_the_watchdog() -> None:
    it = bench(feeds=5)

    await it.run()

    assert it.notifier.feeds >= 5
    assert it.publisher.sent == []


async def test_a_poison_event_is_parked_and_the_others_go_on() -> None:
    def answer(envelope: Envelope) -> Delivery:
        return Rejected("too large") if envelope.aggregate_id == UUID(int=1) else Published(0, 1)

    it = bench(event(1), event(2), publisher=FakePublisher(answer))

    await it.run()

    assert [type(item.delivery) for item in it.store.settled] == [Rejected, Published]
    assert it.figure("cpq_relay_parked_total") == 1
    assert it.figure("cpq_relay_publish_failures_total") == 1


async def test_an_event_that_cannot_even_be_judged_is_parked_alone() -> None:
    deep = order_event("acme", UUID(int=1), 1)
    deep = replace(deep, payload=f'{{"more": {"[" * 20_000}{"]" * 20_000}}}')
    sound = order_event("acme", UUID(int=2), 1)
    it = bench(PendingEvent(deep, 0), PendingEvent(sound, 0), contract=SchemaContract())

    await it.run()

    assert [item.delivery for item in it.store.settled] == [
        Rejected("the payload cannot be judged: RecursionError", SchemaContract().version),
        Published(0, 1),
    ]


async def test_an_event_that_only_the_brokers_state_keeps_is_tried_again_as_soon_as_after_an_outage() -> None:
    late = PendingEvent(event(1).envelope, attempts=8)
    it = bench(late, publisher=FakePublisher(lambda _: Undelivered("NotEnoughReplicasError", passes=True)))

    await it.run()

    [settled] = it.store.settled
    assert settled.retry_after <= timedelta(seconds=0.01)


async def test_an_undelivered_event_waits_longer_each_time() -> None:
    late = PendingEvent(event(1).envelope, attempts=3)
    it = bench(late, publisher=FakePublisher(lambda _: Undelivered("no leader")))

    await it.run()

    assert [item.retry_after for item in it.store.settled] == [timedelta(seconds=8)]


async def test_kafka_down_leaves_the_rows_alone_and_the_relay_up() -> None:
    it = bench(event(1), publisher=FakePublisher(outages=2), feeds=80)

    await it.run()

    assert it.figure("cpq_relay_publish_failures_total") == 2
    assert any("kafka: no brokers" in status for status in it.notifier.statuses)
    assert it.figure("cpq_relay_published_total") == 1
    assert "waiting since" not in it.notifier.statuses[-1]


async def test_the_database_down_is_waited_out_and_the_watchdog_fed() -> None:
    it = bench(event(1), feeds=80)
    await it.relay.start()
    it.store.down = ["refused", "refused"]

    async with asyncio.timeout(5):
        await it.relay.run()

    assert it.figure("cpq_relay_published_total") == 1
    assert any("postgresql: refused" in status for status in it.notifier.statuses)


async def test_a_start_without_the_database_fails() -> None:
    it = bench()
    it.store.down = ["refused"]

    with pytest.raises(Unavailable):
        await it.relay.start()


async def test_each_pass_serves_another_shard_first() -> None:
    it = bench(feeds=60)

    await it.run()

    assert [shards[0] for shards in it.store.claimed[:3]] == [1, 2, 3]
    assert all(sorted(shards) == list(range(SHARDS)) for shards in it.store.claimed)


async def test_nothing_is_sent_under_leases_that_may_lapse_meanwhile() -> None:
    it = bench(event(1), feeds=20)
    await it.relay.start()
    claim = it.store.claim

    async def slow_claim(shards: Sequence[int], limit: int) -> list[PendingEvent]:
        found = await claim(shards, limit)
        if len(it.store.claimed) == 1:
            it.clock.seconds += 13  # of 15
            assert it.publisher.sent == []
        return found

    it.store.claim = slow_claim  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await it.relay.run()

    assert len(it.store.claimed) >= 2
    assert len(it.publisher.sent) == 1


async def test_without_leases_the_relay_stands_by() -> None:
    it = bench(event(1))
    it.store.fences = {}

    await it.run()

    assert it.publisher.sent == []
    assert it.figure("cpq_relay_shards") == 0


async def test_a_stop_during_a_pass_is_obeyed_after_it() -> None:
    it = bench(event(1), feeds=1000)

    def answer(_: Envelope) -> Delivery:
        it.relay._shutdown.request()
        return Published(0, 7)

    it.publisher.answer = answer
    await it.run()

    assert [item.delivery for item in it.store.settled] == [Published(0, 7)]
    assert it.store.released is not None


async def test_an_event_against_its_contract_is_parked_unsent_and_the_others_go_on() -> None:
    it = bench(event(1), event(2), event(3))
    it.contract.refused = {1, 3}

    await it.run()

    assert it.publisher.sent == [event(2).envelope.event_id]
    assert [item.delivery for item in it.store.settled] == [
        Rejected("not as agreed", "contract-1"),
        Published(0, 1),
        Rejected("not as agreed", "contract-1"),
    ]


async def test_what_was_refused_is_judged_anew_once_when_a_shard_is_taken() -> None:
    it = bench(feeds=60)

    await it.run()

    assert it.store.judged_anew == [(list(range(SHARDS)), "contract-1")]


async def test_a_restarted_instance_judges_anew_what_its_predecessor_refused() -> None:
    it = bench()
    it.store.taken_over = dict.fromkeys(range(SHARDS), 1)

    await it.run()

    assert it.store.judged_anew == [(list(range(SHARDS)), "contract-1")]


async def test_a_judgement_that_the_database_did_not_take_is_made_later() -> None:
    it = bench(feeds=60)
    judge = it.store.judge_anew
    outages = ["refused"]

    async def judge_anew(leases: Leases, contract: str) -> int:
        if outages:
            raise Unavailable("postgresql", outages.pop())
        return await judge(leases, contract)

    it.store.judge_anew = judge_anew  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await it.relay.start()

    it.clock.seconds += 100
    async with asyncio.timeout(5):
        await it.relay.run()

    assert it.store.judged_anew == [(list(range(SHARDS)), "contract-1")]


async def test_a_relay_cut_off_from_kafka_leaves_its_shards_to_others_until_it_reaches_it_again() -> None:
    it = bench(event(1), publisher=FakePublisher(outages=6), feeds=80)
    held: list[float] = []
    hold, publish = it.store.hold, it.publisher.publish

    async def counted_hold(leases: Leases, duration: timedelta) -> Leases:
        held.append(it.publisher.outages)
        return await hold(leases, duration)

    async def slow_publish(envelopes: Sequence[Envelope]) -> list[Delivery]:
        it.clock.seconds += 6  # of a lease's 15
        return await publish(envelopes)

    it.store.hold = counted_hold  # type: ignore[method-assign]
    it.publisher.publish = slow_publish  # type: ignore[method-assign]
    await it.relay.start()
    async with asyncio.timeout(5):
        await it.relay.run()

    assert it.store.released == dict.fromkeys(range(SHARDS), 1)
    assert held[-1] == 0, "it took shards again only once Kafka answered"
    assert it.figure("cpq_relay_published_total") == 1
    assert it.figure("cpq_relay_shards") == SHARDS


async def test_a_short_outage_is_no_reason_to_give_shards_up() -> None:
    it = bench(event(1), publisher=FakePublisher(outages=3), feeds=80)
    await it.relay.start()
    async with asyncio.timeout(5):
        await it.relay.run()

    assert it.store.released is None
    assert it.figure("cpq_relay_published_total") == 1


async def test_a_relay_whose_colour_does_not_work_stands_by_and_says_so() -> None:
    it = bench(event(1), colour=Colour.GREEN, feeds=20)
    it.store.taken_over = {3: 7}

    await it.relay.start()
    async with asyncio.timeout(5):
        await it.relay.run()

    assert it.store.released == {3: 7}, "what a former life held goes to those that work"
    assert it.store.claimed == []
    assert it.publisher.sent == []
    assert it.figure("cpq_relay_shards") == 0
    assert it.notifier.statuses == ["standing by: processes without a colour work, epoch 0, 1 events waiting"]


async def test_a_relay_takes_shards_when_its_turn_comes_and_leaves_them_when_it_is_over() -> None:
    it = bench(event(1), colour=Colour.GREEN, feeds=1000)

    async def run() -> None:
        await it.relay.start()
        await it.relay.run()

    running = asyncio.create_task(run())
    async with asyncio.timeout(5):
        await it.process.flip(Colour.GREEN)
        while not it.store.settled:  # noqa: ASYNC110 (looks at what the relay does by itself)
            await asyncio.sleep(0.005)
        assert it.figure("cpq_relay_shards") == SHARDS
        await it.process.flip(Colour.BLUE)
        while it.figure("cpq_relay_shards"):  # noqa: ASYNC110 (see above)
            await asyncio.sleep(0.005)
    running.cancel()

    assert it.store.released == dict.fromkeys(range(SHARDS), 1)


async def test_a_refused_outcome_lets_the_relay_look_at_once() -> None:
    """The other colour took over in the middle of a batch: what Kafka has is not marked here, and nothing more is sent."""
    it = bench(event(1), event(2), feeds=1000, look_interval=3600)
    settle = it.store.settle

    async def refused(leases: Leases, settlements: Sequence[Settlement]) -> Settled:
        await it.process.flip(Colour.GREEN)
        it.process.write()
        return await settle(leases, settlements)

    it.store.settle = refused  # type: ignore[method-assign]  # as the database would
    running = asyncio.create_task(it.run())
    async with asyncio.timeout(5):
        while it.store.released is None:  # noqa: ASYNC110 (looks at what the relay does by itself)
            await asyncio.sleep(0.005)
    running.cancel()

    assert len(it.publisher.sent) == 2
    assert it.store.settled == []
    assert it.process.held.epoch is None
