"""In front of an external system: what is held back was never sent, and the guard hears of what it has to know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.application.guarded_system import GuardedExternalSystem
from app.application.ports import (
    CallAdmitted,
    CallDone,
    CallHealth,
    CallHeldBack,
    CallNotDone,
    CallOutcome,
    CallRefused,
    CallUnknown,
    StoreUnavailable,
)
from app.contracts.loader import load_external_systems
from app.runtime.clock import SystemClock
from app.runtime.metrics import ExternalGuardMetrics

RETRY = load_external_systems()["inventory"].retry
QUIET, ASKED = CallAdmitted(7, must_report=False), CallAdmitted(7, must_report=True)
SECOND = timedelta(seconds=1)


class Told:
    """A guard and a system that answer what they are told and remember what they were asked."""

    def __init__(self, outcome: CallOutcome, *answers: CallAdmitted | CallHeldBack | Exception) -> None:
        self.outcome = outcome
        self.answers = list(answers)
        self.sent: list[str] = []
        self.settled: list[tuple[int, CallHealth, timedelta | None]] = []
        self.registry = CollectorRegistry()

    @property
    def guarded(self) -> GuardedExternalSystem:
        metrics = ExternalGuardMetrics(self.registry)
        return GuardedExternalSystem("inventory", self, self, retry=RETRY, clock=SystemClock(), observer=metrics)  # type: ignore[arg-type]

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        self.sent.append(idempotency_key)
        return self.outcome

    async def find(self, idempotency_key: str) -> CallOutcome:
        self.sent.append(idempotency_key)
        return self.outcome

    async def admit(self) -> CallAdmitted | CallHeldBack:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def settle(
        self, admitted: CallAdmitted, health: CallHealth, *, error: str | None, hold_for: timedelta | None
    ) -> str:
        self.settled.append((admitted.generation, health, hold_for))
        return "closed"


@pytest.mark.parametrize("reason", ["open", "probing", "held"])
async def test_what_is_held_back_is_not_sent_and_says_when_to_come_back(reason: Any) -> None:
    told = Told(CallDone("r", 201), *[CallHeldBack(reason, timedelta(seconds=4))] * 2)
    guarded = told.guarded

    called, found = await guarded.call("key", {}), await guarded.find("key")

    assert called == CallNotDone(f"inventory: not sent, {reason}", retry_after=timedelta(seconds=4))
    # Never "nothing was done": nobody asked.
    assert found == CallUnknown(f"inventory: not sent, {reason}", retry_after=timedelta(seconds=4))
    assert (told.sent, told.settled) == ([], [])
    assert told.registry.get_sample_value(
        "cpq_external_calls_held_back_total", {"system": "inventory", "reason": reason}
    )


@pytest.mark.parametrize(
    ("asked", "told_to_wait"),
    [(timedelta(milliseconds=1), RETRY.shortest_pause), (timedelta(hours=1), RETRY.longest_pause)],
)
async def test_the_pause_keeps_within_what_is_declared(asked: timedelta, told_to_wait: timedelta) -> None:
    outcome = await Told(CallDone("r", 201), CallHeldBack("open", asked)).guarded.call("key", {})

    assert isinstance(outcome, CallNotDone)
    assert outcome.retry_after == told_to_wait


async def test_a_short_wait_is_waited_here() -> None:
    told = Told(CallDone("r", 201), CallHeldBack("rate", SECOND / 100), CallHeldBack("unproven", SECOND / 100), QUIET)

    assert await told.guarded.call("key", {}) == CallDone("r", 201)


async def test_a_long_wait_for_the_rate_is_not() -> None:
    told = Told(CallDone("r", 201), CallHeldBack("rate", SECOND * 3))

    assert await told.guarded.call("key", {}) == CallNotDone("inventory: not sent, rate", retry_after=SECOND * 3)


async def test_without_a_guard_nothing_is_sent() -> None:
    told = Told(CallDone("r", 201), StoreUnavailable("gone"))

    outcome = await told.guarded.call("key", {})

    assert isinstance(outcome, CallNotDone)
    assert outcome.retry_after == RETRY.shortest_pause
    assert told.sent == []


@pytest.mark.parametrize(
    ("outcome", "health", "hold"),
    [
        (CallDone("r", 201), "succeeded", None),
        (CallRefused("no", 422), "succeeded", None),
        (CallUnknown("accepted", 202, retry_after=SECOND), "succeeded", None),
        (CallUnknown("late"), "failed", None),
        (CallUnknown("broken", 201), "failed", None),
        (CallNotDone("no connection"), "failed", None),
        (CallNotDone("no access", 401), "failed", None),
        (CallNotDone("too many", 429, retry_after=SECOND), "failed", SECOND),
    ],
)
async def test_the_guard_hears_how_a_call_went(outcome: CallOutcome, health: str, hold: timedelta | None) -> None:
    told = Told(outcome, ASKED)

    assert await told.guarded.call("key", {}) == outcome
    assert told.settled == [(7, health, hold)]


@pytest.mark.parametrize(
    ("outcome", "health"),
    [
        (CallDone("r", 200), "neutral"),
        (CallNotDone("nothing", 200), "neutral"),
        (CallUnknown("accepted", 200, retry_after=SECOND), "neutral"),
        (CallUnknown("late"), "failed"),
    ],
)
async def test_an_answered_query_proves_little(outcome: CallOutcome, health: str) -> None:
    told = Told(outcome, ASKED)

    await told.guarded.find("key")

    assert told.settled == [(7, health, None)]


@pytest.mark.parametrize(("outcome", "settled"), [(CallDone("r", 201), 0), (CallUnknown("late"), 1)])
async def test_a_success_that_changes_nothing_costs_no_round_trip(outcome: CallOutcome, settled: int) -> None:
    told = Told(outcome, QUIET)

    await told.guarded.call("key", {})

    assert len(told.settled) == settled
