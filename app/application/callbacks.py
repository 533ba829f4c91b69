"""What an external system calls back: whose call it is, what it means for it, and that it happened once.

Whoever sends a callback has proved which system it is and for which tenant before this is reached. What it says is
written down, with its audit entry, and nothing more: the worker that runs the step looks it up and decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

Outcome: TypeAlias = Literal["done", "failed"]

Disposition: TypeAlias = Literal["matched", "early", "late", "surplus"]
"""`early`: the call was not answered yet. `late`: the order had come to its end. `surplus`: another callback decided before."""

_ENDED = frozenset({"cancelled", "completed", "failed", "rejected", "partial"})
_UNANSWERED = "prepared"


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """One callback, from a sender that is known."""

    external_system: str
    tenant_id: str
    callback_id: str
    idempotency_key: str
    order_id: UUID
    external_reference: str
    outcome: Outcome
    detail: str
    occurred_at: datetime
    received_at: datetime
    body_sha256: str


@dataclass(frozen=True, slots=True)
class CalledBack:
    """The call that a callback is about, as it stands."""

    order_state: str
    attempt_state: str


CallbackResult: TypeAlias = Literal["recorded", "repeated", "contradiction", "unknown"]


class CallbackTransaction(Protocol):
    """One transaction of the callback's tenant."""

    async def call_of(self, callback: ReceivedCallback) -> CalledBack | None:
        """The newest call that the system was sent under this key for this order, or None where the tenant has none."""
        ...

    async def add(self, callback: ReceivedCallback, disposition: Disposition) -> bool:
        """Store it with its audit entry; False when its identifier is there, or another callback has decided the call."""
        ...

    async def body_of(self, callback: ReceivedCallback) -> str | None:
        """The hash of what came before under this callback's identifier, or None."""
        ...


async def receive(transaction: CallbackTransaction, callback: ReceivedCallback) -> CallbackResult:
    """Write a callback down.

    Returns:
        `recorded`; `repeated`: this very callback is there already; `contradiction`: its identifier came with another
        body; `unknown`: the tenant has no such call, and nothing was written.
    """
    call = await transaction.call_of(callback)
    if call is None:
        return "unknown"
    disposition = judge(call)
    if await transaction.add(callback, disposition):
        return "recorded"
    former = await transaction.body_of(callback)
    if former is not None:
        return "repeated" if former == callback.body_sha256 else "contradiction"
    return "recorded" if await transaction.add(callback, "surplus") else "repeated"


def judge(call: CalledBack) -> Disposition:
    """When in the life of its call a callback came."""
    if call.order_state in _ENDED:
        return "late"
    return "early" if call.attempt_state == _UNANSWERED else "matched"
