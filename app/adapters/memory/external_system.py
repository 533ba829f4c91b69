"""An external system in memory: one effect per idempotency key, and the outcomes it is told to give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.application.ports import CallDone, CallNotDone, CallOutcome, CallUnknown


class MemoryExternalSystem:
    """See `app.application.ports.ExternalSystem`.

    Attributes:
        effects: requests that had an effect, by idempotency key.
        calls: keys of all calls, in order.
        queries: keys of all queries, in order.
        next_outcomes: outcomes of the next calls, given instead of doing the work.
        next_answers: answers to the next queries, given whatever was done.
        lost_replies: so many of the next calls do the work and leave their outcome unknown.
        is_silent: queries are not answered.
    """

    def __init__(self) -> None:
        self.effects: dict[str, Mapping[str, Any]] = {}
        self.calls: list[str] = []
        self.queries: list[str] = []
        self.next_outcomes: list[CallOutcome] = []
        self.next_answers: list[CallDone | CallNotDone | CallUnknown] = []
        self.lost_replies = 0
        self.is_silent = False

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        self.calls.append(idempotency_key)
        if self.next_outcomes:
            return self.next_outcomes.pop(0)
        self.effects.setdefault(idempotency_key, dict(request))
        if self.lost_replies:
            self.lost_replies -= 1
            return CallUnknown("no answer in time")
        return CallDone(f"ref-{idempotency_key}", 201)

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        self.queries.append(idempotency_key)
        if self.next_answers:
            return self.next_answers.pop(0)
        if self.is_silent:
            return CallUnknown("no answer in time")
        if idempotency_key in self.effects:
            return CallDone(f"ref-{idempotency_key}", 200)
        return CallNotDone("nothing was done", 200)
