"""Compares what we wrote down of calls with what an external system says it did. Finds, and repairs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from app.contracts.loader import ExternalReconciliation

FindingKind: TypeAlias = Literal["effect-without-attempt", "effect-repeated", "attempt-without-effect", "attempt-open"]


@dataclass(frozen=True, slots=True)
class ListedEffect:
    """One thing that a system says it did, or has accepted to do, under a key of this environment."""

    reference: str
    idempotency_key: str
    performed_at: datetime


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """All attempts under one key, as we wrote them down."""

    tenant_id: str
    idempotency_key: str
    began_at: datetime
    has_succeeded: bool


@dataclass(frozen=True, slots=True)
class ExternalFinding:
    """One disagreement: what kind, with which system, about which key, since when."""

    kind: FindingKind
    external_system: str
    tenant_id: str | None
    idempotency_key: str
    since: datetime
    detail: str


class CallBook(Protocol):
    """The recorded calls of all tenants."""

    async def began_between(self, system: str, start: datetime, end: datetime) -> list[WrittenCall]:
        """Calls whose first attempt was written down in this time."""
        ...

    async def open_between(self, system: str, start: datetime, end: datetime) -> list[WrittenCall]:
        """Calls whose last attempt was written down in this time and is still open."""
        ...

    async def known(self, system: str, keys: Collection[str]) -> frozenset[str]:
        """Those of some keys that we wrote down a call under."""
        ...


class EffectList(Protocol):
    """What a system says it did."""

    async def since(self, moment: datetime) -> list[ListedEffect]:
        """Everything from a moment on, of this environment.

        Raises:
            SystemNotCompared: the system does not answer, or not so that it can be relied on.
        """
        ...


async def compare(
    system: str, policy: ExternalReconciliation, book: CallBook, effects: EffectList, now: datetime
) -> list[ExternalFinding]:
    """Find what disagrees with one system within what its policy looks back on; what is fresher than its grace is left out.

    Effects are listed from somewhat earlier on than calls: no clock of another system is ours, and a call that was made at
    the very start of the window has its effect there, too.
    """
    start, end = now - policy.looks_back, now - policy.grace
    listed = await effects.since(start - policy.grace)
    calls = await book.began_between(system, start, end)
    settled = [effect for effect in listed if effect.performed_at <= end]
    known = await book.known(system, {effect.idempotency_key for effect in settled})
    still_open = await book.open_between(system, start, end)
    return sorted(
        [
            *_unwritten(system, settled, known),
            *_missing(system, calls, {effect.idempotency_key for effect in listed}),
            *_open(system, still_open),
        ],
        key=lambda finding: (finding.since, finding.kind, finding.idempotency_key),
    )


def _unwritten(system: str, effects: Iterable[ListedEffect], known: Collection[str]) -> Iterable[ExternalFinding]:
    """What was done there that we did not ask for, or once more than we asked for it."""
    effects = list(effects)
    times = Counter(effect.idempotency_key for effect in effects)
    oldest: Mapping[str, ListedEffect] = {effect.idempotency_key: effect for effect in reversed(effects)}
    for key, effect in oldest.items():
        if key not in known:
            detail = f"{effect.reference} was done there, and no attempt is written down here"
            yield ExternalFinding("effect-without-attempt", system, None, key, effect.performed_at, detail)
        if times[key] > 1:
            detail = f"done {times[key]} times there"
            yield ExternalFinding("effect-repeated", system, None, key, effect.performed_at, detail)


def _missing(system: str, calls: Iterable[WrittenCall], listed: Collection[str]) -> Iterable[ExternalFinding]:
    """What succeeded here and is not there."""
    for call in calls:
        if call.has_succeeded and call.idempotency_key not in listed:
            detail = "succeeded here, and nothing was done there"
            yield ExternalFinding(
                "attempt-without-effect", system, call.tenant_id, call.idempotency_key, call.began_at, detail
            )


def _open(system: str, calls: Iterable[WrittenCall]) -> Iterable[ExternalFinding]:
    for call in calls:
        detail = "what came of the last attempt is still not known here"
        yield ExternalFinding("attempt-open", system, call.tenant_id, call.idempotency_key, call.began_at, detail)
