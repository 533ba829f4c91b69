"""Builds the order projection anew beside the one that serves, compares it with the orders, and switches in one transaction.

Readers see the old projection until the switch, then the new one. The consumer goes on meanwhile: the switch holds it
off for a moment, takes in what came since, and only then replaces the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from app.application.consumption import OrderSnapshot, read_order_event
from app.application.operations import OperationError
from app.application.projections import latest_snapshots
from app.application.repair import RepairReason
from app.messaging.inbox import Record
from app.messaging.retry import Poison

Source = Literal["log", "outbox"]
_SHOWN = 20


class RebuildRefusedError(OperationError):
    """The projection was not replaced; the one that serves is untouched."""


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """An order as an event left it, and whose it is."""

    tenant_id: str
    snapshot: OrderSnapshot


@dataclass(frozen=True, slots=True)
class Comparison:
    """A projection held against the orders: checksums over all of them, and the orders that differ."""

    orders: int
    orders_checksum: str
    projection_checksum: str
    differing: Sequence[str]

    @property
    def is_equal(self) -> bool:
        """Whether each order is projected as it is."""
        return not self.differing and self.orders_checksum == self.projection_checksum


class EventHistory(Protocol):
    """Where the events of orders can be read again from."""

    def read(self, rebuild_id: UUID) -> AsyncIterator[Sequence[TenantSnapshot]]:
        """Read what the rebuild's shadow may not have yet, to the end as it is now, in batches.

        Raises:
            OperationError: the source cannot be read to its end.
        """
        ...


class RecordLog(Protocol):
    """A topic's records from its beginning, read in a thread."""

    def look_for_end(self) -> None:
        """Set where reading ends: the topic's end as it is now."""
        ...

    def next_batch(self) -> Sequence[Record]:
        """Return the next records, none at the end."""
        ...


class LogHistory:
    """The events of orders as the topic has them, each as often as it was published; unreadable ones are left out.

    Args:
        log: the topic of the order events.
        tenant_id: whose events count, or None for those of all tenants.
    """

    def __init__(self, log: RecordLog, tenant_id: str | None) -> None:
        self._log = log
        self._tenant_id = tenant_id

    async def read(self, _rebuild_id: UUID) -> AsyncIterator[Sequence[TenantSnapshot]]:
        await asyncio.to_thread(self._log.look_for_end)
        while records := await asyncio.to_thread(self._log.next_batch):
            snapshots = [snapshot for record in records if (snapshot := self._snapshot(record))]
            if snapshots:
                yield snapshots

    def _snapshot(self, record: Record) -> TenantSnapshot | None:
        try:
            event = read_order_event(record)
        except Poison:
            return None
        is_wanted = self._tenant_id in {None, event.tenant_id}
        return TenantSnapshot(event.tenant_id, event.snapshot) if is_wanted else None


class ShadowProjection(Protocol):
    """A projection being built, and the switch to it."""

    async def open(self, source: Source, reason: RepairReason) -> UUID:
        """Begin a rebuild; one that was begun and never ended is abandoned."""
        ...

    async def put(self, rebuild_id: UUID, snapshots: Sequence[TenantSnapshot]) -> None:
        """Store each snapshot that is later than what the shadow has; one per order."""
        ...

    def switching(self, rebuild_id: UUID) -> AbstractAsyncContextManager[None]:
        """Open the switch's transaction: the projection's writers wait until it ends, its readers do not.

        Orders are compared as they were when it opened: what is published later may be in the source or not.
        """
        ...

    async def compare_shadow(self, rebuild_id: UUID) -> Comparison:
        """Hold the shadow against the orders."""
        ...

    async def replace(self, rebuild_id: UUID, events: int, checksum: str) -> int:
        """Make the projection what the shadow is and return how many rows that changed; within `switching` only."""
        ...

    async def abandon(self, rebuild_id: UUID) -> None:
        """Give a rebuild up and drop its shadow."""
        ...


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    rebuild_id: UUID
    events: int
    changed_rows: int
    comparison: Comparison


async def rebuild(shadow: ShadowProjection, history: EventHistory, source: Source, reason: RepairReason) -> Rebuilt:
    """Rebuild the order projection from a source.

    Raises:
        RebuildRefusedError: the source does not lead to the orders as they are: events are missing from it.
        OperationError: the source cannot be read.
    """
    rebuild_id = await shadow.open(source, reason)
    try:
        events = await _take_in(shadow, history, rebuild_id)
        async with shadow.switching(rebuild_id):
            events += await _take_in(shadow, history, rebuild_id)
            comparison = await shadow.compare_shadow(rebuild_id)
            _refuse_difference(source, comparison)
            changed = await shadow.replace(rebuild_id, events, comparison.projection_checksum)
    except BaseException:
        await shadow.abandon(rebuild_id)
        raise
    return Rebuilt(rebuild_id, events, changed, comparison)


def _refuse_difference(source: Source, comparison: Comparison) -> None:
    if not comparison.is_equal:
        raise RebuildRefusedError(
            f"from the {source}, {len(comparison.differing)} of {comparison.orders} orders are not as they should be, "
            f"such as {', '.join(comparison.differing[:_SHOWN])}; use the other source"
        )


async def _take_in(shadow: ShadowProjection, history: EventHistory, rebuild_id: UUID) -> int:
    events = 0
    async for batch in history.read(rebuild_id):
        events += len(batch)
        tenants = {item.snapshot.order_id: item.tenant_id for item in batch}
        latest = latest_snapshots(item.snapshot for item in batch)
        await shadow.put(rebuild_id, [TenantSnapshot(tenants[key], snapshot) for key, snapshot in latest.items()])
    return events
