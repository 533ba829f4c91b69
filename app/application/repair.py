"""Corrections by an operator: each needs a reason, changes one thing, and leaves an audit entry in the same transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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

    async def discard_event(self, event_id: UUID) -> Repaired | None:
        """Leave a parked event out for good; None where there is no parked event of that id."""
        ...

    async def retry_start(self, order_id: UUID) -> Repaired | None:
        """Make a pending or failed workflow reference due now; None where there is none of that order."""
        ...

    async def retry_reaction(self, reaction_id: UUID) -> Repaired | None:
        """Make a failed reaction pending again, from its first run; None where there is none of that id."""
        ...

    async def close_reaction(self, reaction_id: UUID) -> Repaired | None:
        """Resolve the open case of a failed reaction, which stays failed; None where there is no such case."""
        ...

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        """Append the audit entry of a repair."""
        ...


@dataclass(frozen=True)
class Repair:
    """One kind of repair.

    Args:
        action: its name in the audit.
        change: makes it for the thing of this id; None where that is not in a state to be repaired.
        refusal: what to tell the operator then, with {target} in place of the id.
    """

    action: str
    change: Callable[[RepairStore, UUID], Awaitable[Repaired | None]]
    refusal: str


REQUEUE_EVENT = Repair(
    "repair.outbox.requeue", lambda store, event_id: store.requeue_event(event_id), "no parked event {target}"
)
"""The relay publishes a parked event again, and with it the events that wait behind it."""

DISCARD_EVENT = Repair(
    "repair.outbox.discard", lambda store, event_id: store.discard_event(event_id), "no parked event {target}"
)
"""The relay never publishes a parked event, and goes on with the events that wait behind it."""

RETRY_START = Repair(
    "repair.workflow.retry",
    lambda store, order_id: store.retry_start(order_id),
    "order {target} has no workflow reference that waits or failed",
)
"""The starter tries again now to start an order's process."""

RETRY_REACTION = Repair(
    "repair.reaction.retry",
    lambda store, reaction_id: store.retry_reaction(reaction_id),
    "no failed reaction {target}",
)
"""A worker carries out a failed reaction after all; its fallout case is resolved."""

CLOSE_REACTION = Repair(
    "repair.reaction.close",
    lambda store, reaction_id: store.close_reaction(reaction_id),
    "no failed reaction {target} with an open case",
)
"""A failed reaction stays undone, or was done by hand: nobody waits for a decision any more."""


async def carry_out(repair: Repair, store: RepairStore, target: UUID, reason: RepairReason) -> Repaired:
    """Make a repair and its audit entry.

    Raises:
        RepairRefusedError: there is nothing of this id to repair; nothing was changed.
    """
    repaired = await repair.change(store, target)
    if repaired is None:
        raise RepairRefusedError(repair.refusal.format(target=target))
    await store.audit(repair.action, repaired, reason)
    return repaired
