"""Calls to external systems as they are written down: before they go out, when they are given up, and when they are answered.

Steps of fulfillment and reactions differ in what follows from an answer. That no call goes out without a committed row,
under which key it goes and what an outcome proves is the same for both, and stands here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from app.application.ports import (
    CallDone,
    CallName,
    CallNotDone,
    CallOutcome,
    CallRefused,
    CallUnknown,
    UnitOfWork,
)
from app.domain.external_calls import AttemptState, ExternalCallAttempt, idempotency_key
from app.domain.values import OrderId, TenantId
from app.runtime.clock import Clock
from app.runtime.ids import Ids


@dataclass(frozen=True, slots=True)
class StepCall:
    """What is to be done outside for one step of an order."""

    tenant_id: TenantId
    order_id: OrderId
    step: str
    system: str
    request: Mapping[str, Any]


class WrittenCalls:
    """Writes down the calls of one kind of work.

    Args:
        unit_of_work: opens a tenant's transaction.
        environment: part of every idempotency key, so that environments that share a system never meet.
        clock: time for the records.
        ids: identifiers for the records.
    """

    def __init__(
        self,
        *,
        unit_of_work: Callable[[TenantId], AbstractAsyncContextManager[UnitOfWork]],
        environment: str,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._environment = environment
        self._clock = clock
        self._ids = ids

    async def prepare(
        self, uow: UnitOfWork, call: StepCall, former: ExternalCallAttempt | None, *, epoch: int
    ) -> ExternalCallAttempt:
        """Write down the call that is about to go out; the caller commits before it does."""
        attempt = ExternalCallAttempt(
            attempt_id=self._ids.new(),
            tenant_id=call.tenant_id,
            order_id=call.order_id,
            step=call.step,
            epoch=epoch,
            attempt_no=1 if former is None or former.epoch != epoch else former.attempt_no + 1,
            external_system=call.system,
            idempotency_key=idempotency_key(self._environment, call.tenant_id, call.order_id, call.step, epoch),
            request_sha256=_sha256(call.request),
            state=AttemptState.PREPARED,
            prepared_at=self._clock.now(),
        )
        await uow.fulfillment.add_attempt(attempt)
        return attempt

    async def prepare_again(
        self, call: StepCall, former: ExternalCallAttempt, found: CallNotDone
    ) -> ExternalCallAttempt:
        """Close a call that had no effect and write down the next one, together."""
        async with self._unit_of_work(call.tenant_id) as uow:
            await self.close(uow, former, found)
            attempt = await self.prepare(uow, call, former, epoch=former.epoch)
            await uow.commit()
        return attempt

    async def close(self, uow: UnitOfWork, attempt: ExternalCallAttempt, outcome: CallOutcome) -> None:
        """Write down what became of a call."""
        reference = outcome.reference if isinstance(outcome, CallDone) else None
        error = None if isinstance(outcome, CallDone) else outcome.error
        state = _STATES[type(outcome)]
        await uow.fulfillment.save_attempt(
            attempt.finish(state, self._clock.now(), status=outcome.status, reference=reference, error=error)
        )


def outcome_name(outcome: CallOutcome) -> CallName:
    """How metrics call an outcome."""
    return _NAMES[type(outcome)]


_NAMES: Mapping[type[CallOutcome], CallName] = {
    CallDone: "done",
    CallRefused: "refused",
    CallNotDone: "not_done",
    CallUnknown: "unknown",
}
_STATES: Mapping[type[CallOutcome], AttemptState] = {
    CallDone: AttemptState.SUCCEEDED,
    CallRefused: AttemptState.FAILED,
    CallNotDone: AttemptState.FAILED,
    CallUnknown: AttemptState.UNKNOWN,
}


def _sha256(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
