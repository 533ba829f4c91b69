"""The relay's one loop: hold shards, claim, judge, publish, settle. What payloads must look like it is told.

A pass is the unit of work: a stop is obeyed between passes, never within one, so nothing that Kafka acknowledged stays
unmarked by a drain. A crash between the two publishes again, which the consumers' inbox makes harmless.

A relay whose colour does not work gives its shards back and asks again every few seconds; it measures the outbox all the same.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.messaging.colours import Standing
from app.messaging.envelope import SHARDS, Envelope
from app.messaging.outbox import (
    Delivery,
    Leases,
    PayloadContract,
    PendingEvent,
    Published,
    Rejected,
    RelayPublisher,
    RelayStore,
    Settlement,
    Undelivered,
)
from app.messaging.retry import Backoff, Unavailable
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.metrics import RelayMetrics
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown
from app.runtime.tracing import now, record

_MEASURE_INTERVAL = 2.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at a time and how often.

    Args:
        batch_size: most events of one pass.
        poll_interval: seconds between passes when nothing wakes the relay.
        lease_duration: how long a shard rests when its relay is gone.
    """

    batch_size: int
    poll_interval: float
    lease_duration: timedelta

    @property
    def send_patience(self) -> timedelta:
        """How long one event may wait for Kafka.

        Leases are renewed after a third of their time and a publish takes about three times this long at worst, so a
        pass that was not frozen ends before its leases do.
        """
        return self.lease_duration / 5


class Relay:
    """Moves committed events to Kafka until asked to stop.

    Args:
        store: the outbox.
        contract: what payloads must look like.
        publisher: the way to Kafka.
        standing: whether this relay may work.
        wake: set by the listener when events were committed.
        shutdown: the request to stop.
        metrics: what is shown of it.
        notifier: the service manager.
        clock: monotonic time.
        pace: batch and intervals.
        event_backoff: how long an event waits that Kafka did not take.
        outage_backoff: how long everything waits when Kafka or PostgreSQL cannot be used at all, and an event that the
            brokers' state alone kept from being taken.
    """

    def __init__(
        self,
        *,
        store: RelayStore,
        contract: PayloadContract,
        publisher: RelayPublisher,
        standing: Standing,
        wake: asyncio.Event,
        shutdown: Shutdown,
        metrics: RelayMetrics,
        notifier: Notifier,
        clock: Clock,
        pace: Pace,
        event_backoff: Backoff,
        outage_backoff: Backoff,
    ) -> None:
        self._store = store
        self._contract = contract
        self._publisher = publisher
        self._standing = standing
        self._stands_by = False
        self._wake = wake
        self._shutdown = shutdown
        self._metrics = metrics
        self._notifier = notifier
        self._clock = clock
        self._pace = pace
        self._event_backoff = event_backoff
        self._outage_backoff = outage_backoff
        self._leases: Leases = {}
        self._unjudged: Leases = {}
        self._cut_off_since: float | None = None
        self._hold_at = self._measure_at = clock.monotonic()
        self._lease_end = clock.monotonic()
        self._retry_at = math.inf
        self._first_shard = 0
        self._status = ""

    @property
    def status(self) -> str:
        """One line on what the relay holds and what waits."""
        return self._status

    async def start(self) -> None:
        """Take over what this instance held before and measure the outbox: the start-up check of the database.

        Raises:
            Unavailable: the database cannot be asked.
        """
        may_work = await self._standing.may_work()
        self._leases = self._unjudged = await self._store.take_over()
        await (self._hold() if may_work else self._stand_by())
        await self._measure()

    async def run(self) -> None:
        """Make passes until asked to stop; an outage is waited out, never a reason to end."""
        failures = 0
        while not self._shutdown.requested:
            self._wake.clear()
            try:
                moved = await self._pass()
            except Unavailable as error:
                failures += 1
                delay = self._outage_backoff.delay(failures)
                _log.warning("relay_waits", dependency=error.dependency, reason=error.reason, failures=failures)
                self._notifier.status(f"{error}; waiting since {failures} tries")
                # What was refused may have been, because somebody else works now.
                self._standing.doubt()
                await self._step_aside()
                await self._rest(delay, wakeable=False)
                continue
            if failures:
                _log.info("relay_goes_on", failures=failures)
                self._notifier.status(self._status)
            failures = 0
            self._notifier.watchdog()
            if not moved:
                # Leases are renewed, failed events tried again and epochs noticed on time, even where polls are rarer.
                due = min(self._hold_at, self._retry_at) - self._clock.monotonic()
                await self._rest(
                    min(self._pace.poll_interval, max(0.0, due), self._standing.look_in), wakeable=not self._stands_by
                )

    async def stop(self) -> None:
        """Give the shards back, so that another relay goes on at once, and leave Kafka."""
        await self._publisher.close()
        try:
            await self._store.release(self._leases)
        except Unavailable as error:
            _log.warning("leases_not_released", reason=error.reason)  # they lapse by themselves

    async def _pass(self) -> int:
        now = self._clock.monotonic()
        may_work = await self._standing.may_work()
        if now >= self._measure_at:
            await self._measure()
        if not may_work:
            await self._stand_by()
            return 0
        if self._stands_by:
            self._stands_by, self._hold_at = False, now
        if self._cut_off_since is not None and not self._leases:
            await self._publisher.reach()
            self._cut_off_since, self._hold_at = None, now
        if now >= self._hold_at:
            await self._hold()
        if not self._leases:
            return 0
        if now >= self._retry_at:
            self._retry_at = math.inf
        claimed = await self._store.claim(self._shards(), self._pace.batch_size)
        self._notifier.watchdog()
        if not claimed:
            return 0
        if self._clock.monotonic() + self._pace.send_patience.total_seconds() > self._lease_end:
            # Claimed under leases that may lapse before Kafka answers: renew first, claim again.
            self._hold_at = self._clock.monotonic()
            return len(claimed)
        await self._settle(claimed, await self._deliver(claimed))
        return len(claimed)

    async def _deliver(self, claimed: Sequence[PendingEvent]) -> list[Delivery]:
        refusals = {event.envelope.event_id: self._refusal(event.envelope) for event in claimed}
        sound = [event.envelope for event in claimed if refusals[event.envelope.event_id] is None]
        started = now()
        try:
            published = await self._publisher.publish(sound) if sound else []
        except Unavailable:
            self._metrics.failures.inc(len(sound))
            if self._cut_off_since is None:
                self._cut_off_since = self._clock.monotonic()
            raise
        self._cut_off_since = None
        self._notifier.watchdog()
        for envelope, outcome in zip(sound, published, strict=True):
            _trace(envelope, outcome, started)
        outcomes = iter(published)
        return [
            next(outcomes) if refusal is None else Rejected(refusal, self._contract.version)
            for refusal in refusals.values()
        ]

    def _refusal(self, envelope: Envelope) -> str | None:
        """An event that cannot even be judged is refused: otherwise it would end one relay after the other."""
        try:
            return self._contract.refusal(envelope)
        except Exception as error:  # noqa: BLE001 - whatever judging raises is this event's refusal
            return f"the payload cannot be judged: {type(error).__name__}"

    async def _settle(self, claimed: Sequence[PendingEvent], deliveries: Sequence[Delivery]) -> None:
        settlements = []
        for event, delivery in zip(claimed, deliveries, strict=True):
            # What heals for all events at once is tried again soon after it may have healed.
            passes = isinstance(delivery, Undelivered) and delivery.passes
            delay = (self._outage_backoff if passes else self._event_backoff).delay(event.attempts + 1)
            settlements.append(
                Settlement(event.envelope.event_id, event.envelope.shard, delivery, timedelta(seconds=delay))
            )
            if isinstance(delivery, Undelivered):
                self._retry_at = min(self._retry_at, self._clock.monotonic() + delay)
            if not isinstance(delivery, Published):
                self._metrics.failures.inc()
                _log.warning(
                    "event_undelivered" if isinstance(delivery, Undelivered) else "event_parked",
                    reason=delivery.reason,
                    event_id=str(event.envelope.event_id),
                    aggregate_id=str(event.envelope.aggregate_id),
                    topic=event.envelope.topic,
                    tenant=event.envelope.tenant_id,
                    attempts=event.attempts + 1,
                )
        settled = await self._store.settle(self._leases, settlements)
        self._metrics.published.inc(settled.published)
        self._metrics.parked.inc(settled.parked)
        if settled.fenced:
            # Somebody else owns these shards and publishes the events again; renewing tells which ones are left.
            self._hold_at = self._clock.monotonic()
            _log.warning("outcomes_fenced", events=settled.fenced)

    async def _stand_by(self) -> None:
        """Leave the shards to those whose colour works."""
        if not self._stands_by or self._leases:
            await self._store.release(self._leases)
            _log.info("shards_left", shards=sorted(self._leases))
            self._leases, self._unjudged, self._cut_off_since = {}, {}, None
            self._metrics.shards.set(0)
            self._stands_by, self._measure_at = True, self._clock.monotonic()
        self._hold_at, self._retry_at = math.inf, math.inf

    async def _step_aside(self) -> None:
        """Leave the shards to others when Kafka was out of reach for as long as a dead relay's would rest."""
        if self._cut_off_since is None or not self._leases:
            return
        if self._clock.monotonic() - self._cut_off_since < self._pace.lease_duration.total_seconds():
            return
        try:
            await self._store.release(self._leases)
        except Unavailable:
            return  # then they lapse, or this is tried again
        _log.warning("shards_given_up", shards=sorted(self._leases))
        self._leases = {}
        self._metrics.shards.set(0)

    async def _hold(self) -> None:
        started = self._clock.monotonic()
        held = await self._store.hold(self._leases, self._pace.lease_duration)
        new = {shard: fence for shard, fence in held.items() if self._leases.get(shard) != fence}
        if set(held) != set(self._leases):
            _log.info("shards_held", shards=sorted(held), lost=sorted(set(self._leases) - set(held)))
        self._leases = held
        self._unjudged = {**self._unjudged, **new}
        self._metrics.shards.set(len(held))
        seconds = self._pace.lease_duration.total_seconds()
        self._lease_end = started + seconds
        # A relay without all shards looks for free ones as often as it polls.
        self._hold_at = started + min(seconds / 3, seconds if len(held) == SHARDS else self._pace.poll_interval)
        if self._unjudged:
            # A shard's former owner may have been of another release, and have refused what this one knows.
            if judged := await self._store.judge_anew(self._unjudged, self._contract.version):
                _log.info("refused_events_judged_anew", events=judged)
            self._unjudged = {}

    async def _measure(self) -> None:
        backlog = await self._store.backlog()
        self._metrics.backlog.set(backlog.events)
        self._metrics.oldest_age.set(backlog.oldest_age_seconds)
        self._metrics.parked_aggregates.set(backlog.parked_aggregates)
        self._measure_at = self._clock.monotonic() + _MEASURE_INTERVAL
        holds = self._standing.status if self._stands_by else f"holding {len(self._leases)} of {SHARDS} shards"
        status = f"{holds}, {backlog.events} events waiting"
        if backlog.parked_aggregates:
            status += f", {backlog.parked_aggregates} aggregates wait behind a parked event"
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    def _shards(self) -> list[int]:
        """The held shards, another one first each time: a long backlog of one does not keep the others waiting."""
        shards = sorted(self._leases)
        self._first_shard = (self._first_shard + 1) % len(shards)
        return shards[self._first_shard :] + shards[: self._first_shard]

    async def _rest(self, seconds: float, *, wakeable: bool) -> None:
        end = self._clock.monotonic() + seconds
        while not self._shutdown.requested and (left := end - self._clock.monotonic()) > 0:
            await self._first_of(min(left, self._notifier.feed_interval or left), wakeable=wakeable)
            self._notifier.watchdog()
            if wakeable and self._wake.is_set():
                return

    async def _first_of(self, seconds: float, *, wakeable: bool) -> None:
        waiting: list[asyncio.Task[object]] = [asyncio.create_task(self._shutdown.wait())]
        if wakeable:
            waiting.append(asyncio.create_task(self._wake.wait()))
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def _trace(envelope: Envelope, outcome: Delivery, started: int) -> None:
    """Leave a span of one event of a batch in the trace in which it was committed."""
    record(
        f"publish {envelope.topic}",
        "producer",
        parent=envelope.traceparent,
        started=started,
        attributes={
            "messaging.system": "kafka",
            "cpq.event_id": str(envelope.event_id),
            "cpq.event_type": envelope.event_type,
            "cpq.tenant": envelope.tenant_id,
        },
        error=None if isinstance(outcome, Published) else type(outcome).__name__,
    )
