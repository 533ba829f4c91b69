"""An external system that may finish its work by calling back: what it called back answers a query before it is asked.

The receiver wrote the callback down, in a process of its own. So the answer may be there before the call that it is about
has returned, or although its reply was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol

from app.application.ports import (
    CallDone,
    CallNotDone,
    CallOutcome,
    CallRefused,
    CallUnknown,
    ExternalSystem,
    StoreUnavailable,
)


@dataclass(frozen=True, slots=True)
class CallbackVerdict:
    """What the callback that decides a call says."""

    outcome: Literal["done", "failed"]
    external_reference: str
    detail: str


class CallbackVerdicts(Protocol):
    """Callbacks as the receiver wrote them down."""

    async def of_call(self, system: str, idempotency_key: str) -> CallbackVerdict | None:
        """The callback that decides a call, or None while there is none.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...


class CalledBackExternalSystem:
    """See `app.application.ports.ExternalSystem`.

    Args:
        name: the system's name.
        inner: the system itself.
        verdicts: what it called back.
    """

    def __init__(self, name: str, inner: ExternalSystem, verdicts: CallbackVerdicts) -> None:
        self._name = name
        self._inner = inner
        self._verdicts = verdicts

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        outcome = await self._inner.call(idempotency_key, request)
        verdict = await self._verdict(idempotency_key) if isinstance(outcome, CallUnknown) else None
        if verdict is None:
            return outcome
        if verdict.outcome == "done":
            return CallDone(verdict.external_reference, HTTPStatus.OK)
        return CallRefused(self._failed(verdict), HTTPStatus.OK)

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        verdict = await self._verdict(idempotency_key)
        if verdict is None:
            return await self._inner.find(idempotency_key)
        if verdict.outcome == "done":
            return CallDone(verdict.external_reference, HTTPStatus.OK)
        # The next call under the same key is answered with the refusal itself.
        return CallNotDone(self._failed(verdict), HTTPStatus.OK)

    async def _verdict(self, idempotency_key: str) -> CallbackVerdict | None:
        try:
            return await self._verdicts.of_call(self._name, idempotency_key)
        except StoreUnavailable:
            return None  # the system itself may know

    def _failed(self, verdict: CallbackVerdict) -> str:
        return f"{self._name}: called back that {verdict.external_reference} failed {verdict.detail}".strip()
