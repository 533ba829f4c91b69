"""What every consumer group does alike: validate a record, look at tenants one by one, and let each event count once.

The caller opens the transaction and advances the group's position in it: all of it is committed, or nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec

from app.contracts.order_event import OrderEventV1
from app.messaging import cloudevents
from app.messaging.inbox import Inbox, InboxEntry, Record
from app.messaging.retry import Poison

_ORDER_EVENT = msgspec.json.Decoder(OrderEventV1)


@dataclass(frozen=True, slots=True)
class OrderSnapshot:
    """An order as its event numbered `applied_seq` left it."""

    order_id: UUID
    quote_id: UUID
    customer_id: str
    state: str
    applied_seq: int
    currency: str
    total_one_time: Decimal
    total_recurring: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """A validated event and where it was read."""

    entry: InboxEntry
    tenant_id: str
    event_type: str
    snapshot: OrderSnapshot


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a batch: `stale` events are remembered in the inbox and change nothing."""

    applied: int = 0
    duplicate: int = 0
    stale: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.applied + other.applied, self.duplicate + other.duplicate, self.stale + other.stale)


class TenantUnit(Protocol):
    """One transaction over a group's inbox and effects. An exception that leaves it undoes all of it.

    Every method raises `Unavailable` when the database cannot be asked, and `Poison` when it refuses the data.
    """

    @property
    def inbox(self) -> Inbox: ...

    async def act_for(self, tenant_id: str) -> None:
        """See and write, from here on, only rows of this tenant; before it, none."""
        ...


class ReadEvent(Protocol):
    """What a group's events have in common."""

    @property
    def entry(self) -> InboxEntry: ...
    @property
    def tenant_id(self) -> str: ...


UnitT = TypeVar("UnitT", bound=TenantUnit)
EventT = TypeVar("EventT", bound=ReadEvent)


def read_order_event(record: Record) -> OrderEvent:
    """Validate a record of oms.order.events.v1.

    Raises:
        Poison: headers or payload are malformed, or say different things about who the event is and whose it is.
    """
    attributes = cloudevents.decode(record.headers)
    payload = decode_order_event(record.value or b"")
    claims = (
        ("tenant", attributes.tenant_id, payload.tenant_id),
        ("event id", attributes.event_id, payload.event_id),
        ("event type", attributes.event_type, payload.event_type),
        ("sequence", attributes.sequence, payload.aggregate_seq),
    )
    for what, header, body in claims:
        if header != body:
            raise Poison(f"{what} differs between header and payload")
    return OrderEvent(
        entry=InboxEntry(payload.event_id, record.partition, record.offset),
        tenant_id=payload.tenant_id,
        event_type=payload.event_type,
        snapshot=snapshot_of(payload),
    )


def decode_order_event(payload: bytes) -> OrderEventV1:
    """Read the payload of an order event; raises Poison."""
    try:
        return _ORDER_EVENT.decode(payload)
    except msgspec.MsgspecError as error:
        raise Poison(f"payload: {error}") from None


def snapshot_of(payload: OrderEventV1) -> OrderSnapshot:
    """The order as an event says it is."""
    return OrderSnapshot(
        order_id=payload.order_id,
        quote_id=payload.quote_id,
        customer_id=payload.customer_id,
        state=payload.state,
        applied_seq=payload.aggregate_seq,
        currency=payload.currency,
        total_one_time=Decimal(payload.total_one_time),
        total_recurring=Decimal(payload.total_recurring),
        updated_at=payload.occurred_at,
    )


async def apply_by_tenant(
    unit: UnitT, events: Sequence[EventT], effect: Callable[[UnitT, str, Sequence[EventT]], Awaitable[int]]
) -> Tally:
    """Put events into the inbox and give those not seen before to `effect`, tenant by tenant.

    Aggregates belong to one tenant, so going tenant by tenant keeps each aggregate's events together and in order.
    Tenants come in the order of their names: two transactions never wait for each other's rows.

    Args:
        unit: the transaction.
        events: in the order of the log.
        effect: writes the effects of one tenant's new events and returns how many of them changed something.
    """
    tally = Tally()
    by_tenant = attrgetter("tenant_id")
    for tenant_id, group in groupby(sorted(events, key=by_tenant), key=by_tenant):
        own = list(group)
        await unit.act_for(tenant_id)
        unseen = await unit.inbox.add([event.entry for event in own])
        # By id: a batch may hold the same event twice, and only one of the two counts.
        fresh = list({event.entry.event_id: event for event in own if event.entry.event_id in unseen}.values())
        applied = await effect(unit, tenant_id, fresh) if fresh else 0
        tally += Tally(applied=applied, duplicate=len(own) - len(fresh), stale=len(fresh) - applied)
    return tally
