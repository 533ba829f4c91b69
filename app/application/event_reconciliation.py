"""Holds every order event against the order it speaks of, and writes down what disagrees. It corrects nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from app.application.consumption import OrderEvent, Tally, TenantUnit, apply_by_tenant


class FindingKind(StrEnum):
    """What an event and the database disagree in."""

    EVENT_WITHOUT_ORDER = "event-without-order"
    ORDER_BEHIND_EVENT = "order-behind-event"
    STATE_DIFFERS = "state-differs"
    TOTAL_DIFFERS = "total-differs"
    SEQUENCE_GAP = "sequence-gap"
    SEQUENCE_REPEATED = "sequence-repeated"


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement, found when the event was read."""

    kind: FindingKind
    order_id: UUID
    aggregate_seq: int
    event_id: UUID
    detail: str


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """An order as its own row says, and the states its transitions led to, by sequence."""

    aggregate_seq: int
    currency: str
    total_one_time: Decimal
    total_recurring: Decimal
    states: Mapping[int, str]


class ReconciliationBook(Protocol):
    """Orders, seen events and findings of the transaction's tenant."""

    async def orders(self, order_ids: Sequence[UUID]) -> Mapping[UUID, KnownOrder]:
        """Read orders; those that do not exist are left out."""
        ...

    async def see(self, order_id: UUID, aggregate_seq: int, event_id: UUID) -> UUID:
        """Remember an event at its place in its order, and return the event that has the place: this one, or an earlier."""
        ...

    async def has_seen(self, order_id: UUID, aggregate_seq: int) -> bool:
        """Tell whether the place before an event was seen."""
        ...

    async def close_gap(self, order_id: UUID, aggregate_seq: int) -> None:
        """Resolve the gap that was found in front of a place."""
        ...

    async def add(self, findings: Sequence[Finding]) -> None:
        """Write findings down, each once per kind and event."""
        ...


class ReconciliationUnit(TenantUnit, Protocol):
    """One transaction over a group's inbox and findings."""

    @property
    def reconciliation(self) -> ReconciliationBook: ...


async def reconcile_orders(unit: ReconciliationUnit, events: Sequence[OrderEvent]) -> Tally:
    """Compare events with their orders and with what was seen before."""
    return await apply_by_tenant(unit, events, _compare)


async def _compare(unit: ReconciliationUnit, _tenant_id: str, events: Sequence[OrderEvent]) -> int:
    book = unit.reconciliation
    orders = await book.orders(list({event.snapshot.order_id for event in events}))
    findings: list[Finding] = []
    for event in events:
        snapshot, event_id = event.snapshot, event.entry.event_id
        found = disagreements(event, orders.get(snapshot.order_id))
        first = await book.see(snapshot.order_id, snapshot.applied_seq, event_id)
        if first != event_id:
            found.append((FindingKind.SEQUENCE_REPEATED, f"event {first} has number {snapshot.applied_seq} already"))
        if snapshot.applied_seq > 1 and not await book.has_seen(snapshot.order_id, snapshot.applied_seq - 1):
            found.append((FindingKind.SEQUENCE_GAP, f"no event numbered {snapshot.applied_seq - 1} came before"))
        await book.close_gap(snapshot.order_id, snapshot.applied_seq + 1)
        findings += [Finding(kind, snapshot.order_id, snapshot.applied_seq, event_id, detail) for kind, detail in found]
    if findings:
        await book.add(findings)
    return len(events)


def disagreements(event: OrderEvent, order: KnownOrder | None) -> list[tuple[FindingKind, str]]:
    """What an event and its order disagree in: kinds with their details."""
    snapshot = event.snapshot
    if order is None:
        return [(FindingKind.EVENT_WITHOUT_ORDER, f"{event.event_type}, but the tenant has no such order")]
    if order.aggregate_seq < snapshot.applied_seq:
        detail = f"the order is at number {order.aggregate_seq}, the event is number {snapshot.applied_seq}"
        return [(FindingKind.ORDER_BEHIND_EVENT, detail)]
    found: list[tuple[FindingKind, str]] = []
    state = order.states.get(snapshot.applied_seq)
    if state != snapshot.state:
        found.append((FindingKind.STATE_DIFFERS, f"transition says {state}, event says {snapshot.state}"))
    totals = (order.currency, order.total_one_time, order.total_recurring)
    told = (snapshot.currency, snapshot.total_one_time, snapshot.total_recurring)
    if totals != told:
        found.append((FindingKind.TOTAL_DIFFERS, f"order {_amounts(totals)}, event {_amounts(told)}"))
    return found


def _amounts(totals: tuple[str, Decimal, Decimal]) -> str:
    currency, one_time, recurring = totals
    return f"{currency} {one_time} once, {recurring} recurring"
