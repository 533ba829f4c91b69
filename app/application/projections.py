"""What events do to read models. An effect is safe to repeat, and an earlier event never undoes a later one.

The caller opens the transaction and advances the group's position in it: all of it is committed, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Protocol
from uuid import UUID

import msgspec

from app.contracts.order_event import OrderEventV1
from app.messaging import cloudevents
from app.messaging.inbox import Inbox, InboxEntry, Positions, Record
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


class OrderProjection(Protocol):
    """The read model of orders, for the transaction's tenant."""

    async def put(self, snapshots: Sequence[OrderSnapshot]) -> set[UUID]:
        """Store each snapshot that is later than what is stored, and return the orders that changed; one per order."""
        ...


class ProjectionUnitOfWork(Protocol):
    """One transaction over a group's position, inbox and read models. An exception that leaves it undoes all of it.

    Every method raises `Unavailable` when the database cannot be asked, and `Poison` when it refuses the data.
    """

    @property
    def positions(self) -> Positions: ...
    @property
    def inbox(self) -> Inbox: ...
    @property
    def order_projection(self) -> OrderProjection: ...

    async def act_for(self, tenant_id: str) -> None:
        """See and write, from here on, only rows of this tenant; before it, none."""
        ...


class ProjectionUnitOfWorkFactory(Protocol):
    """Opens a transaction for one consumer group."""

    def __call__(self) -> AbstractAsyncContextManager[ProjectionUnitOfWork]:
        """Return a context manager over one transaction."""
        ...


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """A validated event and where it was read."""

    entry: InboxEntry
    tenant_id: str
    snapshot: OrderSnapshot


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a batch: `stale` events are remembered in the inbox and change nothing."""

    applied: int = 0
    duplicate: int = 0
    stale: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.applied + other.applied, self.duplicate + other.duplicate, self.stale + other.stale)


def read_order_event(record: Record) -> OrderEvent:
    """Validate a record of oms.order.events.v1.

    Raises:
        Poison: headers or payload are malformed, or say different things about who the event is and whose it is.
    """
    attributes = cloudevents.decode(record.headers)
    try:
        payload = _ORDER_EVENT.decode(record.value or b"")
    except msgspec.MsgspecError as error:
        raise Poison(f"payload: {error}") from None
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
        snapshot=OrderSnapshot(
            order_id=payload.order_id,
            quote_id=payload.quote_id,
            customer_id=payload.customer_id,
            state=payload.state,
            applied_seq=payload.aggregate_seq,
            currency=payload.currency,
            total_one_time=Decimal(payload.total_one_time),
            total_recurring=Decimal(payload.total_recurring),
            updated_at=payload.occurred_at,
        ),
    )


async def project_orders(unit: ProjectionUnitOfWork, events: Sequence[OrderEvent]) -> Tally:
    """Bring the order projection up to these events: per tenant one inbox write and one projection write.

    Orders belong to one tenant, so going tenant by tenant keeps each order's events together and in order.
    """
    tally = Tally()
    by_tenant = attrgetter("tenant_id")
    for tenant_id, group in groupby(sorted(events, key=by_tenant), key=by_tenant):
        await unit.act_for(tenant_id)
        tally += await _project_tenant(unit, list(group))
    return tally


async def _project_tenant(unit: ProjectionUnitOfWork, events: Sequence[OrderEvent]) -> Tally:
    unseen = await unit.inbox.add([event.entry for event in events])
    # By id: a batch may hold the same event twice, and only one of the two counts.
    fresh = {event.entry.event_id: event.snapshot for event in events if event.entry.event_id in unseen}
    latest: dict[UUID, OrderSnapshot] = {}
    for snapshot in fresh.values():
        known = latest.get(snapshot.order_id)
        if known is None or known.applied_seq < snapshot.applied_seq:
            latest[snapshot.order_id] = snapshot
    changed = await unit.order_projection.put(list(latest.values())) if latest else set()
    applied = sum(snapshot.order_id in changed for snapshot in fresh.values())
    return Tally(applied=applied, duplicate=len(events) - len(fresh), stale=len(fresh) - applied)
