"""How each external system behaves right now, set at run time through /control/behaviours.

A system has one behaviour for every call, and rules before it for the calls they name. All of it lives in memory: a
restarted simulator behaves as its settings say. What was done is in the ledger and stays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Literal


class Mode(StrEnum):
    """What becomes of a call."""

    OK = "ok"
    ERROR = "error"
    """Answers `status` and does nothing."""
    HANG = "hang"
    """Does nothing and does not answer."""
    ACT_THEN_TIMEOUT = "act-then-timeout"
    """Does the work and does not answer."""
    ACT_THEN_ERROR = "act-then-error"
    """Does the work and answers `status`."""
    ACT_THEN_BROKEN_REPLY = "act-then-broken-reply"
    """Does the work and answers 201 with a truncated body."""
    ACT_THEN_WRONG_CONTENT_TYPE = "act-then-wrong-content-type"
    """Does the work and answers 201 with a page for people."""
    ACT_TWICE = "act-twice"
    """Forgets that keys are there to be kept: does the work again, whatever was done under the key."""

    @property
    def acts(self) -> bool:
        """Whether the call has its effect."""
        return self not in {Mode.ERROR, Mode.HANG}


Answers = Literal["done", "accepted"]
Finish = Literal["done", "failed"]
Callbacks = Literal["once", "twice", "early", "none"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One behaviour of one system.

    Args:
        mode: what becomes of a call.
        latency: waited before anything else.
        status: answered in the error modes.
        retry_after: the Retry-After header of the error modes, in whole seconds.
        remaining: number of calls this holds for, None for all; afterwards it is gone.
        methods: the HTTP methods it holds for; others are answered normally.
        order_id, idempotency_key: the only calls it holds for.
        answers: `done` at once or `accepted` for later; None for what is declared for the system's sandbox.
        finishes_after: when accepted work ends; None for what is declared.
        finishes_as: how accepted work ends.
        callbacks: sent when accepted work ends: `twice` with the same id, `early` before the call is answered, or not at all.
        share: of the calls that it could hold for, those it does hold for.
    """

    mode: Mode = Mode.OK
    latency: timedelta = timedelta()
    status: int = 500
    retry_after: int | None = None
    remaining: int | None = None
    methods: frozenset[str] = frozenset({"POST"})
    order_id: str | None = None
    idempotency_key: str | None = None
    answers: Answers | None = None
    finishes_after: timedelta | None = None
    finishes_as: Finish = "done"
    callbacks: Callbacks = "once"
    share: float = 1.0

    @property
    def label(self) -> str:
        """How the ledger calls it: the mode, and in the error modes what was answered, such as `error 429`."""
        return f"{self.mode} {self.status}" if self.mode in {Mode.ERROR, Mode.ACT_THEN_ERROR} else self.mode

    def is_for(self, method: str, key: str) -> bool:
        """Whether it holds for a call; an order's calls carry the order's id in their key."""
        return (
            method in self.methods
            and self.idempotency_key in {None, key}
            and (self.order_id is None or self.order_id in key.split(":"))
        )


HEALTHY = Behaviour()


class Behaviours:
    """The current behaviours of every system.

    Args:
        systems: their names.
        chance: a number from 0 to below 1, for behaviours that hold for a share of calls.
    """

    def __init__(self, systems: Iterable[str], chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._current = dict.fromkeys(systems, HEALTHY)
        self._rules: dict[str, list[Behaviour]] = {system: [] for system in self._current}

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems there are."""
        return tuple(self._current)

    def current(self) -> dict[str, Behaviour]:
        """Return every system's general behaviour without using it up."""
        return dict(self._current)

    def rules(self, system: str) -> tuple[Behaviour, ...]:
        """Return the rules of a system, the first that holds for a call first."""
        return tuple(self._rules[system])

    def set(self, system: str, behaviour: Behaviour) -> None:
        """Replace the general behaviour of a system, and forget its rules."""
        self._current[system] = behaviour
        self._rules[system] = []

    def add(self, system: str, rule: Behaviour) -> None:
        """Add a rule behind those there are."""
        self._rules[system].append(rule)

    def take(self, system: str, method: str, key: str) -> Behaviour:
        """Return the behaviour for one call and count the call against its `remaining`."""
        rules = self._rules[system]
        for place, rule in enumerate(rules):
            if rule.is_for(method, key) and self._falls_to(rule):
                rules[place : place + 1] = _used(rule)
                return rule
        behaviour = self._current[system]
        if not behaviour.is_for(method, key) or not self._falls_to(behaviour):
            return HEALTHY
        self._current[system] = next(iter(_used(behaviour)), HEALTHY)
        return behaviour

    def _falls_to(self, behaviour: Behaviour) -> bool:
        return behaviour.share >= 1 or self._chance() < behaviour.share


def _used(behaviour: Behaviour) -> list[Behaviour]:
    """What is left of a behaviour after one call: itself, or nothing."""
    if behaviour.remaining is None:
        return [behaviour]
    left = behaviour.remaining - 1
    return [replace(behaviour, remaining=left)] if left > 0 else []
