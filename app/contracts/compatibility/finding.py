"""One difference between two releases of an interface, and what it means to those who rely on the interface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What a difference means, from harmless to not."""

    COMPATIBLE = "compatible"
    """Nobody who suited the older release has to know."""
    READERS = "compatible for readers"
    """Readers meet something new, and are well where they pass over what they do not know."""
    BREAKING = "breaking"
    """Somebody who suited the older release is refused or misled by the newer one."""


_RANK = tuple(Level)


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    Args:
        interface: `openapi`, `topics`, `events`, `variables` or `settings`.
        at: where, as a JSON pointer or as file and field.
        level: what it means.
        text: what is different, and for whom.
    """

    interface: str
    at: str
    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.interface}{'/' if self.interface in {'topics', 'events', 'variables'} else ' '}{self.at}: {self.text}"


def worst(findings: Iterable[Finding]) -> Level:
    """The level of an interface: that of its worst difference."""
    return worst_of(finding.level for finding in findings)


def worst_of(levels: Iterable[Level]) -> Level:
    """The worst of some levels; where there are none, nobody has to know."""
    return max(levels, key=_RANK.index, default=Level.COMPATIBLE)
