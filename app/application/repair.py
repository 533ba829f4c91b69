"""Corrections by an operator: each needs a reason, changes one thing, and leaves an audit entry in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.application.operations import OperationError

_SHORTEST_REASON = 10


class RepairRefusedError(OperationError):
    """The thing is not in a state that this repair corrects, or does not exist; nothing was changed."""


@dataclass(frozen=True)
class RepairReason:
    """Why and by whom: somebody reads it a year later."""

    operator: str
    text: str

    def __post_init__(self) -> None:
        if len(self.text.strip()) < _SHORTEST_REASON:
            raise RepairRefusedError(
                f"a reason of at least {_SHORTEST_REASON} characters is needed: what happened, which ticket"
            )


@dataclass(frozen=True)
class Repaired:
    """What a repair changed: the thing, its tenant, and its state before and after."""

    tenant_id: str
    target_type: str
    target_id: str
    before: dict[str, Any]
    after: dict[str, Any]


class RepairStore(Protocol):
    """Where repairs are made: one transaction, opened by the caller."""

    async def requeue_event(self, event_id: UUID) -> Repaired | None:
        """Make a parked event pending again; None where there is no parked event of that id."""
        ...

    async def retry_start(self, order_id: UUID) -> Repaired | None:
        """Make a pending or failed workflow reference due now; None where there is none of that order."""
        ...

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        """Append the audit entry of a repair."""
        ...


async def requeue_event(store: RepairStore, event_id: UUID, reason: RepairReason) -> Repaired:
    """Let the relay publish a parked event again, and with it the events that wait behind it.

    Raises:
        RepairRefusedError: there is no parked event of that id.
    """
    repaired = await store.requeue_event(event_id)
    if repaired is None:
        raise RepairRefusedError(f"no parked event {event_id}")
    await store.audit("repair.outbox.requeue", repaired, reason)
    return repaired


async def retry_start(store: RepairStore, order_id: UUID, reason: RepairReason) -> Repaired:
    """Let the starter try again now to start an order's process.

    Raises:
        RepairRefusedError: the order's process was started, or there is no such order.
    """
    repaired = await store.retry_start(order_id)
    if repaired is None:
        raise RepairRefusedError(f"order {order_id} has no workflow reference that waits or failed")
    await store.audit("repair.workflow.retry", repaired, reason)
    return repaired
