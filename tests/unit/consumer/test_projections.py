from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from app.application.consumption import OrderEvent, OrderSnapshot, Tally, read_order_event
from app.application.projections import project_orders
from app.messaging.inbox import InboxEntry, Record
from app.messaging.retry import Poison
from tests.unit.consumer.records import PARTITION, record


class MemoryUnitOfWork:
    """Rows in dictionaries; refuses to touch a tenant's rows before act_for."""

    def __init__(self) -> None:
        self.seen: set[UUID] = set()
        self.orders: dict[UUID, tuple[str, OrderSnapshot]] = {}
        self.tenant: str | None = None
        self.writes = 0

    @property
    def inbox(self) -> MemoryUnitOfWork:
        return self

    @property
    def order_projection(self) -> MemoryUnitOfWork:
        return self

    async def act_for(self, tenant_id: str) -> None:
        self.tenant = tenant_id

    async def add(self, entries: Sequence[InboxEntry]) -> set[UUID]:
        assert self.tenant is not None
        self.writes += 1
        fresh = {entry.event_id for entry in entries} - self.seen
        self.seen |= fresh
        return fresh

    async def put(self, snapshots: Sequence[OrderSnapshot]) -> set[UUID]:
        assert self.tenant is not None
        assert len({snapshot.order_id for snapshot in snapshots}) == len(snapshots)
        self.writes += 1
        changed = set()
        for snapshot in snapshots:
            known = self.orders.get(snapshot.order_id)
            if known is None or known[1].applied_seq < snapshot.applied_seq:
                self.orders[snapshot.order_id] = (self.tenant, snapshot)
                changed.add(snapshot.order_id)
        return changed


def events(*records: Record) -> list[OrderEvent]:
    return [read_order_event(item) for item in records]


async def test_a_new_order_appears() -> None:
    unit = MemoryUnitOfWork()

    tally = await project_orders(unit, events(record(order=1, seq=1, offset=0)))

    assert tally == Tally(applied=1)
    assert unit.orders[UUID(int=1)] == (
        "acme",
        OrderSnapshot(
            order_id=UUID(int=1),
            quote_id=UUID(int=501),
            customer_id="customer-1",
            state="acknowledged",
            applied_seq=1,
            currency="EUR",
            total_one_time=Decimal("10.00"),
            total_recurring=Decimal("1.50"),
            updated_at=datetime(2026, 11, 22, 20, 0, tzinfo=UTC),
        ),
    )


async def test_a_repetition_has_no_second_effect() -> None:
    unit = MemoryUnitOfWork()
    await project_orders(unit, events(record(order=1, seq=1, offset=0)))

    assert await project_orders(unit, events(record(order=1, seq=1, offset=9))) == Tally(duplicate=1)


async def test_the_same_event_twice_in_one_batch_counts_once() -> None:
    twice = events(record(order=1, seq=1, offset=0), record(order=1, seq=1, offset=1))

    assert await project_orders(MemoryUnitOfWork(), twice) == Tally(applied=1, duplicate=1)


async def test_an_earlier_event_never_overwrites_a_later_one() -> None:
    unit = MemoryUnitOfWork()
    await project_orders(unit, events(record(order=1, seq=3, offset=0)))

    assert await project_orders(unit, events(record(order=1, seq=2, offset=1))) == Tally(stale=1)
    assert unit.orders[UUID(int=1)][1].state == "completed"


async def test_a_batch_costs_two_writes_per_tenant_and_keeps_tenants_apart() -> None:
    unit = MemoryUnitOfWork()
    batch = [
        record(order=order, seq=seq, offset=order * 10 + seq, tenant=tenant)
        for order, tenant in ((1, "acme"), (2, "globex"), (3, "acme"))
        for seq in (1, 2, 3)
    ]

    assert await project_orders(unit, events(*batch)) == Tally(applied=9)
    assert unit.writes == 4
    assert {order.int: (tenant, snapshot.applied_seq) for order, (tenant, snapshot) in unit.orders.items()} == {
        1: ("acme", 3),
        2: ("globex", 3),
        3: ("acme", 3),
    }


def test_header_and_payload_must_name_the_same_tenant() -> None:
    with pytest.raises(Poison, match="tenant differs between header and payload"):
        read_order_event(record(order=1, seq=1, offset=0, header_tenant="globex"))


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"eventId": 1}', b"\xff"])
def test_a_payload_that_is_no_order_event_is_poison(value: bytes | None) -> None:
    with pytest.raises(Poison, match="payload"):
        read_order_event(replace(record(order=1, seq=1, offset=0), value=value))


def test_where_an_event_was_read_goes_into_the_inbox() -> None:
    assert read_order_event(record(order=1, seq=2, offset=7)).entry == InboxEntry(UUID(int=1002), PARTITION, 7)
