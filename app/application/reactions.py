"""What events ask to be done outside: written down with the inbox row, carried out later by a worker.

The handler calls nobody. The request is taken from the event alone, so that it is the same however often it is made.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.application.consumption import OrderEvent, Tally, TenantUnit, apply_by_tenant

TRIGGER_BILLING = "trigger-billing"
NOTIFY_CUSTOMER = "notify-customer"


@dataclass(frozen=True, slots=True)
class ReactionRequest:
    """One thing to be done outside because of one event; `step` names it in the idempotency key, once per order."""

    kind: str
    order_id: UUID
    event_id: UUID
    step: str
    external_system: str
    request: Mapping[str, Any]


class ReactionBook(Protocol):
    """Reactions of the transaction's tenant."""

    async def request(self, reactions: Sequence[ReactionRequest]) -> None:
        """Write reactions down; an event has at most one per consumer group."""
        ...


class ReactionUnit(TenantUnit, Protocol):
    """One transaction over a group's inbox and reactions."""

    @property
    def reactions(self) -> ReactionBook: ...


@dataclass(frozen=True, slots=True)
class ReactionRule:
    """Which events make a group react, and whom it asks for what."""

    kind: str
    external_system: str
    event_types: Collection[str]


def reaction_to(rule: ReactionRule, event: OrderEvent) -> ReactionRequest | None:
    """What an event asks for under a rule, or None."""
    if event.event_type not in rule.event_types:
        return None
    snapshot = event.snapshot
    # A kind that is done once per kind of event carries the event's type in its step, so that each has a key of its own.
    step = rule.kind if len(rule.event_types) == 1 else f"{rule.kind}-{_kebab(event.event_type)}"
    return ReactionRequest(
        kind=rule.kind,
        order_id=snapshot.order_id,
        event_id=event.entry.event_id,
        step=step,
        external_system=rule.external_system,
        request={
            "orderId": str(snapshot.order_id),
            "tenantId": event.tenant_id,
            "eventId": str(event.entry.event_id),
            "eventType": event.event_type,
            "customerId": snapshot.customer_id,
            "orderState": snapshot.state,
            "currency": snapshot.currency,
            "totalOneTime": str(snapshot.total_one_time),
            "totalRecurring": str(snapshot.total_recurring),
        },
    )


def react(rule: ReactionRule) -> Callable[[ReactionUnit, Sequence[OrderEvent]], Awaitable[Tally]]:
    """Make the handler of a group that reacts by a rule; events that ask for nothing are remembered in the inbox only."""

    async def write_down(unit: ReactionUnit, _tenant_id: str, events: Sequence[OrderEvent]) -> int:
        wanted = [reaction for event in events if (reaction := reaction_to(rule, event))]
        if wanted:
            await unit.reactions.request(wanted)
        return len(wanted)

    async def apply(unit: ReactionUnit, events: Sequence[OrderEvent]) -> Tally:
        return await apply_by_tenant(unit, events, write_down)

    return apply


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
