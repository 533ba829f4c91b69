"""How each external system behaves right now, set at run time through /control/behaviours.

Behaviours live in memory: a restarted simulator is a healthy one. What was done is in the ledger and stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

SYSTEMS = ("inventory", "provisioning", "billing")


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

    @property
    def acts(self) -> bool:
        """Whether the call has its effect."""
        return self not in {Mode.ERROR, Mode.HANG}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One system's behaviour.

    Args:
        mode: what becomes of a call.
        latency: waited before anything else.
        status: answered in the error modes.
        remaining: number of calls this holds for, None for all; afterwards the system is healthy again.
        methods: the HTTP methods it holds for; others are answered normally.
    """

    mode: Mode = Mode.OK
    latency: timedelta = timedelta()
    status: int = 500
    remaining: int | None = None
    methods: frozenset[str] = frozenset({"POST"})


HEALTHY = Behaviour()


class Behaviours:
    """The current behaviour of every system."""

    def __init__(self) -> None:
        self._current = dict.fromkeys(SYSTEMS, HEALTHY)

    def current(self) -> dict[str, Behaviour]:
        """Return every system's behaviour without using it up."""
        return dict(self._current)

    def set(self, system: str, behaviour: Behaviour) -> None:
        """Replace the behaviour of a system."""
        self._current[system] = behaviour

    def take(self, system: str, method: str) -> Behaviour:
        """Return the behaviour for one call and count the call against `remaining`."""
        behaviour = self._current[system]
        if method not in behaviour.methods:
            return HEALTHY
        if behaviour.remaining is not None:
            left = behaviour.remaining - 1
            self._current[system] = replace(behaviour, remaining=left) if left > 0 else HEALTHY
        return behaviour
