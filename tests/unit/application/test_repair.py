"""A repair changes one thing and audits it, or is refused and leaves nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from app.application.repair import (
    CLOSE_REACTION,
    DISCARD_EVENT,
    REQUEUE_EVENT,
    RETRY_REACTION,
    RETRY_START,
    Repair,
    Repaired,
    RepairReason,
    RepairRefusedError,
    carry_out,
)

REASON = RepairReason("ada", "broker refused the size, ticket 42")


@dataclass
class Store:
    """Things that can be repaired, and the audit."""

    parked: set[UUID] = field(default_factory=set)
    waiting: set[UUID] = field(default_factory=set)
    failed: set[UUID] = field(default_factory=set)
    audited: list[tuple[str, str]] = field(default_factory=list)

    async def requeue_event(self, event_id: UUID) -> Repaired | None:
        return Repaired("acme", "outbox_event", str(event_id), {}, {}) if event_id in self.parked else None

    async def discard_event(self, event_id: UUID) -> Repaired | None:
        return await self.requeue_event(event_id)

    async def retry_start(self, order_id: UUID) -> Repaired | None:
        return Repaired("acme", "workflow_reference", str(order_id), {}, {}) if order_id in self.waiting else None

    async def retry_reaction(self, reaction_id: UUID) -> Repaired | None:
        return Repaired("acme", "reaction", str(reaction_id), {}, {}) if reaction_id in self.failed else None

    async def close_reaction(self, reaction_id: UUID) -> Repaired | None:
        return await self.retry_reaction(reaction_id)

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        assert reason is REASON
        self.audited.append((action, repaired.target_id))


@pytest.mark.parametrize(
    ("repair", "action"),
    [
        (REQUEUE_EVENT, "repair.outbox.requeue"),
        (DISCARD_EVENT, "repair.outbox.discard"),
        (RETRY_START, "repair.workflow.retry"),
        (RETRY_REACTION, "repair.reaction.retry"),
        (CLOSE_REACTION, "repair.reaction.close"),
    ],
)
async def test_a_repair_is_audited_under_its_name(repair: Repair, action: str) -> None:
    target = uuid4()
    store = Store(parked={target}, waiting={target}, failed={target})

    repaired = await carry_out(repair, store, target, REASON)

    assert repaired.target_id == str(target)
    assert store.audited == [(action, str(target))]


@pytest.mark.parametrize("repair", [REQUEUE_EVENT, DISCARD_EVENT, RETRY_START, RETRY_REACTION, CLOSE_REACTION])
async def test_what_cannot_be_repaired_is_named_and_not_audited(repair: Repair) -> None:
    target, store = uuid4(), Store()

    with pytest.raises(RepairRefusedError, match=str(target)):
        await carry_out(repair, store, target, REASON)

    assert store.audited == []
