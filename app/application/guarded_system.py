"""Circuit breaker and rate limit in front of an external system: behind the same port, before anything is sent.

The state is the guard's, and the guard's is everybody's: what one process learns, all go by. A call that is held back
was not sent, and says when to come back; a query that is held back leaves unknown what it asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from app.application.ports import (
    CallAdmitted,
    CallDone,
    CallHealth,
    CallHeldBack,
    CallNotDone,
    CallOutcome,
    CallRefused,
    CallUnknown,
    ExternalCallGuard,
    ExternalSystem,
    GuardObserver,
    StoreUnavailable,
)
from app.contracts.loader import ExternalRetry
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

log = get_logger(__name__)

# A short wait here is cheaper than a run of the step more.
_PATIENCE = timedelta(seconds=1)
_SHORTEST_WAIT = timedelta(milliseconds=10)
_SHORT = frozenset({"rate", "unproven"})
_BREAKER = frozenset({"open", "probing"})


class GuardedExternalSystem:
    """See `app.application.ports.ExternalSystem`.

    Args:
        name: the system's name, for messages.
        inner: the system itself.
        guard: its guard.
        retry: between these pauses is what a caller is told to wait.
        clock: monotonic time.
        observer: metrics.
    """

    def __init__(
        self,
        name: str,
        inner: ExternalSystem,
        guard: ExternalCallGuard,
        *,
        retry: ExternalRetry,
        clock: Clock,
        observer: GuardObserver,
    ) -> None:
        self._name = name
        self._inner = inner
        self._guard = guard
        self._retry = retry
        self._clock = clock
        self._observer = observer

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        admitted = await self._admit()
        if isinstance(admitted, CallNotDone):
            return admitted
        outcome = await self._inner.call(idempotency_key, request)
        await self._settle(admitted, outcome, "succeeded")
        return outcome

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        admitted = await self._admit()
        if isinstance(admitted, CallNotDone):
            return CallUnknown(admitted.error, retry_after=admitted.retry_after)
        found = await self._inner.find(idempotency_key)
        await self._settle(admitted, found, "neutral", answers={CallNotDone})
        return found

    async def _admit(self) -> CallAdmitted | CallNotDone:
        """Ask for admission, and wait a little where that is all it takes."""
        until = self._clock.monotonic() + _PATIENCE.total_seconds()
        while True:
            before = self._clock.monotonic()
            try:
                answer = await self._guard.admit()
            except StoreUnavailable as error:
                return CallNotDone(
                    f"{self._name}: not sent, the guard: {error}", retry_after=self._retry.shortest_pause
                )
            self._observer.guarded(self._clock.monotonic() - before)
            if isinstance(answer, CallAdmitted):
                return answer
            wait = max(answer.retry_after, _SHORTEST_WAIT).total_seconds()
            if answer.reason not in _SHORT or self._clock.monotonic() + wait > until:
                return self._held_back(answer)
            await asyncio.sleep(wait)

    def _held_back(self, answer: CallHeldBack) -> CallNotDone:
        self._observer.held_back(self._name, answer.reason)
        if answer.reason in _BREAKER:
            self._observer.breaker(self._name, answer.reason)
        pause = max(self._retry.shortest_pause, min(answer.retry_after, self._retry.longest_pause))
        return CallNotDone(f"{self._name}: not sent, {answer.reason}", retry_after=pause)

    async def _settle(
        self,
        admitted: CallAdmitted,
        outcome: CallOutcome,
        healthy: CallHealth,
        *,
        answers: set[type[CallOutcome]] | None = None,
    ) -> None:
        """Tell the guard what the outcome says of the system's health, when it has to know."""
        is_well = (
            isinstance(outcome, CallDone | CallRefused) or type(outcome) in (answers or ()) or _is_accepted(outcome)
        )
        if is_well and not admitted.must_report:
            return
        hold = outcome.retry_after if isinstance(outcome, CallNotDone | CallUnknown) and not is_well else None
        error = None if isinstance(outcome, CallDone) else outcome.error
        try:
            state = await self._guard.settle(admitted, healthy if is_well else "failed", error=error, hold_for=hold)
        except StoreUnavailable as unavailable:
            # The guard counts one call as lost, which it gets over by itself.
            log.warning("outcome of a call not counted", system=self._name, error=str(unavailable))
            return
        self._observer.breaker(self._name, state)
        if state == "open":
            log.error("circuit breaker is open", system=self._name, error=error)


def _is_accepted(outcome: CallOutcome) -> bool:
    """Whether the system answered well that the work goes on."""
    return (
        isinstance(outcome, CallUnknown)
        and outcome.retry_after is not None
        and outcome.status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED}
    )
