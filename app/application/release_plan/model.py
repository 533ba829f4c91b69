"""What a plan says: changes, steps, refusals, and whether there is a way back. Nothing here is ever altered once it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.contracts.compatibility.finding import Level
from app.contracts.loader import ChangeKind


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what is live and what the bundle brings.

    Args:
        kind: what is changed.
        name: which one, as file and field, pointer, or the name that its declaration has.
        old: what is live, in short; None where there is none.
        new: what the bundle brings; None where it takes it away.
        category: of a setting its category, of a migration its phase, of an API difference whom it is about, else empty.
        text: what is different and for whom.
        forward: what it means to those who suited what is live.
        backward: what going back would mean to those who suit what the bundle brings.
        unit: the deployable that it belongs to, where it belongs to one alone.
    """

    kind: ChangeKind
    name: str
    old: str | None
    new: str | None
    category: str
    text: str
    forward: Level
    backward: Level
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What an interface of the bundle means to those who suit what is live, and the other way round.

    Args:
        interface: as app.contracts.compatibility names it.
        differences: how many there are.
        forward, backward: the worst of them; None where one of the releases does not lay the interface open.
    """

    interface: str
    differences: int
    forward: Level | None
    backward: Level | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the release.

    Args:
        step: its name in release_steps.yml.
        play: the play that does it.
        playbook: which has the play; another one than release.yml is given after the release.
        runbook: the line of the runbook, by number; 0 is the pre-check.
        spec: the section of the specification that its place follows.
        hosts: where it acts, in the inventory's order; empty where the plan knows no inventory.
        acts: whether it changes or judges anything in this release; the others pass over their hosts.
        because: the changes that it brings, kind and name.
        reason: why it comes where it comes.
        gate: what must hold before the next one.
    """

    step: str
    play: str
    playbook: str
    runbook: int
    spec: str
    hosts: tuple[str, ...]
    acts: bool
    because: tuple[str, ...]
    reason: str
    gate: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the release may not be: the rule, what breaks it, and what to do instead."""

    rule: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}. {self.remedy}"


class Way(StrEnum):
    """Whether a release can be taken back, from yes to no."""

    POSSIBLE = "possible"
    CONDITIONAL = "conditional"
    FORWARD_ONLY = "roll-forward only"


class Asked(StrEnum):
    """What live data can be asked for: each is one query."""

    LIVE_ORDERS = "live orders"
    """Orders whose process, of the named ones, is pending or alive."""
    PENDING_ORDERS = "pending orders"
    """Orders whose process, of the named ones, has not been started yet."""
    EVENTS_ON_TOPICS = "events on topics"
    """Events on the named topics, published or waiting in the outbox."""
    WAITING_EVENTS = "waiting events"
    """Events of the named topics that nobody has published yet, or that a consumer group has put aside."""
    EVENTS_OF_TYPES = "events of types"
    """Events of the named types."""
    EVENTS_WITH_VALUES = "events with values"
    """Events that have one of the named values in a field."""
    STATES = "states"
    """Orders that are or were, and quotes that are, in one of the named states."""
    OPEN_STEPS = "open steps"
    """Orders with a step, a call or a callback of the named job types that is not settled."""


@dataclass(frozen=True, slots=True)
class Question:
    """What live data is asked.

    Args:
        asked: which query answers it.
        names: what it asks for, sorted.
        field: of EVENTS_WITH_VALUES the event's field; else empty.
    """

    asked: Asked
    names: tuple[str, ...]
    field: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """How many there are, and the ids of the oldest of them, at most ten."""

    count: int
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.count:
            return "none"
        return f"{self.count}: {', '.join(self.ids)}{', …' if self.count > len(self.ids) else ''}"


@dataclass(frozen=True, slots=True)
class Ground:
    """One reason of the verdict.

    Args:
        way: what this one alone would allow.
        because: the change, and what it does to the release before.
        ask: what live data decides, and how it is asked; empty where nothing has to be asked.
        answer: what it said when the plan was made; empty where it was not asked.
        question: what answers it; None where nothing is asked, or where no data knows.
        keep: what a release that goes forward instead has to bring along; empty where nothing hangs on it.
    """

    way: Way
    because: str
    ask: str = ""
    answer: str = ""
    question: Question | None = None
    keep: str = ""


_RANK = tuple(Way)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the release can be taken back once it is out: as its worst ground says."""

    grounds: tuple[Ground, ...]

    @property
    def way(self) -> Way:
        """The verdict in one word or three."""
        return max((ground.way for ground in self.grounds), key=_RANK.index, default=Way.POSSIBLE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a person reads before a release.

    Args:
        release_id: the bundle's.
        live: the releases that are installed, the oldest first.
        is_backward: whether the bundle was made before what is live; its changes are told as they were once made.
        readers_first: whether consumers come before everybody who writes events, because events have something new.
        compatibility: of each interface; empty where nothing is live.
        changes: by kind and name.
        steps: all of them, in the order of release.yml.
        afterwards: what is left for people when the release has ended.
        refusals: why it may not be; none where it may.
        verdict: whether it can be taken back.
        template: the rollback plan of spec 15.3, filled.
        runbook: the runbook of spec 24, filled.
    """

    release_id: str
    live: tuple[str, ...]
    is_backward: bool
    readers_first: bool
    compatibility: tuple[Compatibility, ...]
    changes: tuple[Change, ...]
    steps: tuple[Step, ...]
    afterwards: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    verdict: Verdict
    template: Mapping[str, str]
    runbook: Mapping[str, tuple[str, ...]]
