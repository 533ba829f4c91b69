"""What a person decides about a step that fell out: each decision needs a reason and is audited with its change.

A decision changes what is stored and closes the case in one transaction. The step's job waits in the workflow engine with
an incident until it is released, which comes after the commit and can be repeated: the engine then delivers the job, and
the worker acts on what was decided.

- retry: the step runs again, from its first run. Its calls keep their idempotency key, so whatever was done before is
  found and not done twice. A new epoch, and with it a new key, is for a system that answered for good under the old key:
  only where the system itself refused the newest call and no call of the step is open or succeeded.
- complete: somebody saw that the work is done, and says how the external system calls it.
- cancel: the work is not done and will not be; the order goes on without it. Only while certainly nothing was done.
- close: the case is closed and nothing else changes, where its step does not wait for a decision. A job of the order's own
  goes on in the engine, because the step was settled after all or its variables are understood now; a foreign one does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from app.application.repair import Repaired, RepairReason, RepairRefusedError
from app.domain.external_calls import AttemptState, ExternalCallAttempt
from app.domain.fulfillment import FOREIGN_DELIVERIES, FulfillmentTask, TaskState
from app.domain.order import OrderState
from app.domain.values import OrderId


class Decision(StrEnum):
    """What becomes of a step that fell out."""

    RETRY = "retry"
    COMPLETE = "complete"
    CANCEL = "cancel"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class FalloutEntry:
    """A fallout case and what was decided; `engine_released_at` is None while its job waits in the engine."""

    fallout_id: UUID
    tenant_id: str
    order_id: OrderId
    step: str
    error_code: str
    detail: str
    state: str
    opened_at: datetime
    resolved_at: datetime | None
    decision: str | None
    decided_by: str | None
    decision_reason: str | None
    evidence: str | None
    engine_released_at: datetime | None
    process_instance_key: int | None
    job_key: int | None


@dataclass(frozen=True, slots=True)
class HeldFallout:
    """An open case with the rows it is about, held until the transaction ends; attempts oldest first."""

    case: FalloutEntry
    order_state: OrderState
    task: FulfillmentTask
    attempts: Sequence[ExternalCallAttempt]


class FalloutStore(Protocol):
    """Fallout cases of all tenants, for an operator: one transaction, opened by the caller."""

    async def waiting(self) -> list[FalloutEntry]:
        """Cases that wait for a decision, and decided ones whose job waits in the engine; oldest first."""
        ...

    async def hold(self, order_id: OrderId, step: str) -> HeldFallout | None:
        """The step's open case with its rows, or None."""
        ...

    async def awaiting_release(self, order_id: OrderId, step: str) -> FalloutEntry | None:
        """The step's newest decided case whose job was not released yet, or None."""
        ...

    async def save_task(self, task: FulfillmentTask) -> None:
        """Store a task's new state."""
        ...

    async def save_attempt(self, attempt: ExternalCallAttempt) -> None:
        """Store what is known of a call now."""
        ...

    async def decide(
        self, fallout_id: UUID, decision: Decision, reason: RepairReason, evidence: str | None, *, is_released: bool
    ) -> None:
        """Close a case by a decision; `is_released` where no job waits for it."""
        ...

    async def mark_released(self, fallout_id: UUID) -> None:
        """Note that the case's job is with the workers again."""
        ...

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        """Append the audit entry of a repair."""
        ...


async def retry(
    store: FalloutStore, order_id: OrderId, step: str, reason: RepairReason, now: datetime, *, is_new_epoch: bool
) -> Repaired:
    """Let a step run again.

    Raises:
        RepairRefusedError: it does not wait for a decision, or a new epoch could do its work twice.
    """
    held = await _waiting(store, order_id, step)
    if is_new_epoch:
        unsure = [attempt for attempt in held.attempts if attempt.state is not AttemptState.FAILED]
        if unsure or not held.attempts or not held.attempts[-1].was_answered:
            raise RepairRefusedError(
                f"{step} of order {order_id}: a new epoch could do the work twice: it needs a newest call that the "
                "external system itself refused (4xx) and no call that is open or succeeded; retry under the same epoch"
            )
    after = held.task.start_over(now, is_new_epoch=is_new_epoch)
    return await _decide(store, held, Decision.RETRY, after, reason)


async def complete(
    store: FalloutStore, order_id: OrderId, step: str, reason: RepairReason, now: datetime, *, reference: str
) -> Repaired:
    """Note that a step's work is done, and as what: its open calls are thereby known to have succeeded.

    Raises:
        RepairRefusedError: it does not wait for a decision, or no external system does it.
    """
    held = await _waiting(store, order_id, step)
    _require_external_work(held)
    for attempt in held.attempts:
        if attempt.is_open:
            await store.save_attempt(
                attempt.finish(AttemptState.SUCCEEDED, now, status=attempt.response_status, reference=reference)
            )
    after = held.task.complete(reference, now)
    return await _decide(store, held, Decision.COMPLETE, after, reason, evidence=reference)


async def cancel(store: FalloutStore, order_id: OrderId, step: str, reason: RepairReason, now: datetime) -> Repaired:
    """Give a step up; the order goes on without it.

    Raises:
        RepairRefusedError: it does not wait for a decision, no external system does it, or its work may have been done.
    """
    held = await _waiting(store, order_id, step)
    _require_external_work(held)
    if any(attempt.state is not AttemptState.FAILED for attempt in held.attempts):
        raise RepairRefusedError(
            f"{step} of order {order_id}: a call is open or succeeded, so the work may be done; "
            "retry finds out, complete records it"
        )
    return await _decide(store, held, Decision.CANCEL, held.task.cancel(now), reason)


async def close(store: FalloutStore, order_id: OrderId, step: str, reason: RepairReason) -> Repaired:
    """Close a case whose step does not wait for a decision: one of a foreign process instance, say.

    Raises:
        RepairRefusedError: there is no open case, or its step waits for a decision.
    """
    held = await store.hold(order_id, step)
    if held is None:
        raise _no_case(order_id, step)
    if held.task.state is TaskState.FALLOUT:
        raise RepairRefusedError(f"{step} of order {order_id} waits for a decision: retry, complete or cancel-step")
    return await _decide(store, held, Decision.CLOSE, held.task, reason)


async def _waiting(store: FalloutStore, order_id: OrderId, step: str) -> HeldFallout:
    held = await store.hold(order_id, step)
    if held is None:
        raise _no_case(order_id, step)
    if held.task.state is not TaskState.FALLOUT:
        raise RepairRefusedError(
            f"{step} of order {order_id} is {held.task.state} and waits for no decision: close its case"
        )
    if held.order_state not in {OrderState.ACKNOWLEDGED, OrderState.IN_PROGRESS}:
        raise RepairRefusedError(f"order {order_id} is {held.order_state}: no step of it may go on")
    return held


def _no_case(order_id: OrderId, step: str) -> RepairRefusedError:
    return RepairRefusedError(
        f"no open fallout case of step {step} of order {order_id}'s process (a reaction is retried by repair reaction retry)"
    )


def _require_external_work(held: HeldFallout) -> None:
    if not held.attempts:
        raise RepairRefusedError(
            f"{held.task.step} of order {held.task.order_id} never called an external system: nothing can have been done "
            "outside or be left undone; retry it"
        )


async def _decide(
    store: FalloutStore,
    held: HeldFallout,
    decision: Decision,
    after: FulfillmentTask,
    reason: RepairReason,
    *,
    evidence: str | None = None,
) -> Repaired:
    await store.save_task(after)
    is_released = decision is Decision.CLOSE and held.case.error_code in FOREIGN_DELIVERIES
    await store.decide(held.case.fallout_id, decision, reason, evidence, is_released=is_released)
    repaired = Repaired(
        tenant_id=held.case.tenant_id,
        target_type="fulfillmentTask",
        target_id=f"{after.order_id}/{after.step}",
        before=_summary(held.task) | {"fallout": held.case.error_code},
        after=_summary(after) | {"evidence": evidence},
    )
    await store.audit(f"repair.fallout.{decision}", repaired, reason)
    return repaired


def _summary(task: FulfillmentTask) -> dict[str, str | int | None]:
    return {
        "state": task.state,
        "runCount": task.run_count,
        "epoch": task.epoch,
        "externalReference": task.external_reference,
        "lastError": task.last_error,
    }
