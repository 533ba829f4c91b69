"""What events do to read models. An effect is safe to repeat, and an earlier event never undoes a later one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

from app.application.consumption import OrderEvent, OrderSnapshot, Tally, TenantUnit, apply_by_tenant


class OrderProjection(Protocol):
    """The read model of orders, for the transaction's tenant."""

    async def put(self, snapshots: Sequence[OrderSnapshot]) -> set[UUID]:
        """Store each snapshot that is later than what is stored, and return the orders that changed; one per order."""
        ...


class ProjectionUnit(TenantUnit, Protocol):
    """One transaction over a group's inbox and read models."""

    @property
    def order_projection(self) -> OrderProjection: ...


async def project_orders(unit: ProjectionUnit, events: Sequence[OrderEvent]) -> Tally:
    """Bring the order projection up to these events: per tenant one inbox write and one projection write."""
    return await apply_by_tenant(unit, events, _project)


async def _project(unit: ProjectionUnit, _tenant_id: str, events: Sequence[OrderEvent]) -> int:
    latest = latest_snapshots(event.snapshot for event in events)
    changed = await unit.order_projection.put(list(latest.values()))
    return sum(event.snapshot.order_id in changed for event in events)


def latest_snapshots(snapshots: Iterable[OrderSnapshot]) -> dict[UUID, OrderSnapshot]:
    """The latest snapshot of each order."""
    latest: dict[UUID, OrderSnapshot] = {}
    for snapshot in snapshots:
        known = latest.get(snapshot.order_id)
        if known is None or known.applied_seq < snapshot.applied_seq:
            latest[snapshot.order_id] = snapshot
    return latest
