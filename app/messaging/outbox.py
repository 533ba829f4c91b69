"""The outbox as the relay knows it: shards held by lease, events claimed, outcomes settled. Payloads stay opaque.

Order is per aggregate and never global. A claim hands out at most one event per aggregate, the lowest unpublished one;
the next is claimed only after its predecessor is marked published. So neither a partial failure nor a transaction that
commits late can put a later event before an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from app.messaging.envelope import Envelope

Leases = Mapping[int, int]
"""Held shards with the fence each was acquired at; a higher fence in the store means that somebody else took over."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """A claimed event and how often publishing it has failed so far."""

    envelope: Envelope
    attempts: int


@dataclass(frozen=True, slots=True)
class Published:
    """Kafka acknowledged the event; position None where the broker recognised a repetition and did not say."""

    partition: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The event cannot be published as it is, now or later: it is parked, and its aggregate waits behind it.

    `contract` is the version of the contract that refused the payload; None where it was the broker that refused.
    """

    reason: str
    contract: str | None = None


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Kafka did not take this event now, though it may have taken others.

    `passes`: what kept it is the brokers' state, which heals for all events at once, not the event or its topic.
    """

    reason: str
    passes: bool = False


Delivery = Published | Rejected | Undelivered


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to write about one claimed event; `retry_after` counts for an undelivered one only."""

    event_id: UUID
    shard: int
    delivery: Delivery
    retry_after: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Settled:
    """How many events were written as what; `fenced` ones were not, because their shard has another owner now."""

    published: int = 0
    parked: int = 0
    deferred: int = 0
    fenced: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """The whole outbox, whoever holds its shards."""

    events: int
    oldest_age_seconds: float
    parked_aggregates: int


class RelayStore(Protocol):
    """The outbox table and the leases on its shards. Every method raises `Unavailable` when the store cannot be asked."""

    async def take_over(self) -> Leases:
        """Re-acquire, with new fences, what an earlier process of this same instance still holds."""
        ...

    async def hold(self, leases: Leases, duration: timedelta) -> Leases:
        """Extend the leases still ours, up to this relay's share, and return all that are held now.

        The share is that of all relays that said so within their own `duration`, this one included. What is above it is
        released, what is below it is acquired as far as leases are free: so nothing may be in flight at the call.
        """
        ...

    async def release(self, leases: Leases) -> None:
        """Give up leases still ours and the claim to a share, so that others need not wait for them to lapse."""
        ...

    async def judge_anew(self, leases: Leases, contract: str) -> int:
        """Make pending, in these shards, what another version of the contract than this one refused; return how many."""
        ...

    async def claim(self, shards: Sequence[int], limit: int) -> list[PendingEvent]:
        """Return due events of these shards, at most one per aggregate; earlier named shards are served first."""
        ...

    async def settle(self, leases: Leases, settlements: Sequence[Settlement]) -> Settled:
        """Write all outcomes in one transaction, skipping shards whose fence has moved on."""
        ...

    async def backlog(self) -> Backlog:
        """Measure what is not published."""
        ...


class PayloadContract(Protocol):
    """What payloads must look like; the relay itself opens none."""

    @property
    def version(self) -> str:
        """The same for all who judge alike."""
        ...

    def refusal(self, envelope: Envelope) -> str | None:
        """Say why an event must not be published, in words that repeat nothing of its payload; None when it may."""
        ...


class EventPublisher(Protocol):
    """The way to the topics."""

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Delivery]:
        """Send events and wait for the broker's word on each; outcomes are in the order of the arguments.

        Returns within a bounded time, after which nothing of this call is sent any more.

        Raises:
            Unavailable: no event was acknowledged, for reasons that are none of the events' own.
        """
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class RelayPublisher(EventPublisher, Protocol):
    """The relay's way to the topics, which it can also try without an event at hand."""

    async def reach(self) -> None:
        """Connect unless connected, and send nothing.

        Raises:
            Unavailable: the broker cannot be reached now.
        """
        ...
