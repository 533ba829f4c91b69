"""What an operator may decide about a dead letter: have it tried again, or leave it out. The consumer acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from app.application.repair import Repaired, RepairReason, RepairRefusedError

Decision = Literal["replaying", "discarded"]


@dataclass(frozen=True, slots=True)
class HeldLetter:
    """A dead letter, held until the transaction ends."""

    tenant_id: str
    state: str


class DeadLetterDesk(Protocol):
    """Dead letters of all tenants, in one transaction opened by the caller."""

    async def hold(self, dead_letter_id: UUID) -> HeldLetter | None:
        """Read and lock a dead letter; None where there is none."""
        ...

    async def decide(self, dead_letter_id: UUID, decision: Decision, reason: RepairReason) -> None:
        """Write the decision down and give the parked event to its consumer."""
        ...

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        """Append the audit entry of a decision."""
        ...


async def decide(desk: DeadLetterDesk, dead_letter_id: UUID, decision: Decision, reason: RepairReason) -> bool:
    """Have a dead letter tried again with all that waits behind it, or left out; False when that was decided before.

    Raises:
        RepairRefusedError: there is no such dead letter, or the opposite was decided.
    """
    letter = await desk.hold(dead_letter_id)
    if letter is None:
        raise RepairRefusedError(f"no dead letter {dead_letter_id}")
    if letter.state != "open":
        done = {"replaying": ("replaying", "replayed"), "discarded": ("discarded",)}[decision]
        if letter.state in done:
            return False
        raise RepairRefusedError(f"dead letter {dead_letter_id} is {letter.state}: nothing is left to decide")
    await desk.decide(dead_letter_id, decision, reason)
    repaired = Repaired(
        letter.tenant_id, "dead_letter", str(dead_letter_id), {"state": letter.state}, {"state": decision}
    )
    action = "deadLetter.replay" if decision == "replaying" else "deadLetter.discard"
    await desk.audit(action, repaired, reason)
    return True
