"""Who still speaks the form that a contract migration takes away: it is refused until nobody does, and each one is named.

Whoever runs a release before the one that contracts may look at the old structures. What else speaks the old form says the head of
the migration: instances of a process or a version of variables, events of a topic, values of a Redis key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.application.migration_header import Removed
from app.application.process_versions import LiveWorker, ReachedProcess
from app.application.release_plan.described import Migration
from app.application.release_plan.model import Answer, Asked, Question
from app.contracts.compatibility.events import is_earlier

_NAMED = 10
_UNCOUNTED = "could not be counted within the statement timeout"


class SpeakerKind(StrEnum):
    """What can speak an old form."""

    OWN = "this release"
    RELEASE = "release under way"
    SESSION = "database session"
    WORKER = "live worker"
    INSTANCE = "process instance"
    OUTBOX = "outbox row"
    RECORD = "topic record"
    REDIS = "Redis key"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody who still speaks the old form.

    Args:
        kind: what it is.
        who: its name, or how many there are and which.
        remedy: what ends it.
    """

    kind: SpeakerKind
    who: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind} {self.who}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Session:
    """A session of one of the platform's roles; `name` is instance/release of what opened it."""

    pid: int
    role: str
    name: str

    @property
    def release_id(self) -> str:
        """The release that it says; empty where it says none."""
        return self.name.rpartition("/")[2] if "/" in self.name else ""


@dataclass(frozen=True, slots=True)
class TopicState:
    """What a topic still has.

    Args:
        retained: records that somebody can still read.
        behind: by consumer group, how many records it has not read.
    """

    retained: int
    behind: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StandbyState:
    """How far behind the primary's log standbys are.

    Args:
        behind: bytes by server, 0 where it shows everything; None of one that does not answer.
        following: how many servers receive the primary's log.
    """

    behind: Mapping[str, int | None] = field(default_factory=dict)
    following: int = 0


@dataclass(frozen=True)
class Speech:
    """Everything that was asked.

    Args:
        release: a release that is under way, with who holds it; empty without one.
        sessions, workers: all that are alive.
        reached: process versions that orders can still reach.
        answers: of PostgreSQL, by question; None of one that came to no end.
        topics: of the topics that are there.
        keys: of Redis, by what is removed.
        standbys: all of them.
    """

    release: str = ""
    sessions: tuple[Session, ...] = ()
    workers: tuple[LiveWorker, ...] = ()
    reached: tuple[ReachedProcess, ...] = ()
    answers: Mapping[Question, Answer | None] = field(default_factory=dict)
    topics: Mapping[str, TopicState] = field(default_factory=dict)
    keys: Mapping[Removed, Answer] = field(default_factory=dict)
    standbys: StandbyState = field(default_factory=StandbyState)


def removed(contracts: Iterable[Migration], kind: str) -> list[Removed]:
    """What contract migrations take away of one kind, each once."""
    return list(dict.fromkeys(each for one in contracts for each in one.header.removes if each.kind == kind))


def questions(contracts: Sequence[Migration], reached: Sequence[ReachedProcess]) -> tuple[Question, ...]:
    """What PostgreSQL has to be asked about what contract migrations take away."""
    asked = [Question(Asked.LIVE_ORDERS, names) for one in contracts if (names := _processes(one, reached))]
    topics = [Question(Asked.WAITING_EVENTS, (each.name,)) for each in removed(contracts, "topic")]
    return tuple(dict.fromkeys(asked + topics))


def speakers(contract: Migration, release_id: str, generation: int, speech: Speech) -> list[Speaker]:
    """Name whoever stands against a contract migration.

    Args:
        contract: what is to be applied.
        release_id: the release that applies it, which is the first that is known to do without.
        generation: of that release.
        speech: what was asked.
    """
    return [
        *_of_release(contract, release_id, generation, speech),
        *_of_code(release_id, speech),
        *_of_processes(contract, speech),
        *_of_topics(contract, speech),
        *_of_keys(contract, speech),
        *_of_standbys(speech.standbys),
    ]


def _of_release(contract: Migration, release_id: str, generation: int, speech: Speech) -> Iterator[Speaker]:
    last = contract.header.last_needed_by
    if last is not None and generation <= last:
        who = f"{release_id}, of generation {generation}, needs what {contract.name} removes"
        yield Speaker(SpeakerKind.OWN, who, f"release a bundle of generation {last + 1} on every host first")
    if speech.release:
        yield Speaker(SpeakerKind.RELEASE, speech.release, "let it end, and ask again")


def _of_code(release_id: str, speech: Speech) -> Iterator[Speaker]:
    for session in speech.sessions:
        if not _does_without(session.release_id, release_id):
            says = session.name or "without a name"
            who = f"{says} (backend {session.pid}, role {session.role})"
            if not session.release_id:
                who += " says no release"
            yield Speaker(SpeakerKind.SESSION, who, f"end it, or release {release_id} where it runs")
    for worker in speech.workers:
        if not _does_without(worker.release_id, release_id):
            who = f"{worker.instance_id} of group {worker.worker_group} runs {worker.release_id}"
            yield Speaker(SpeakerKind.WORKER, who, f"release {release_id} on its host, or stop it for a minute")


def _does_without(release_id: str, contracting: str) -> bool:
    return release_id == contracting or is_earlier(contracting, release_id)


def _processes(contract: Migration, reached: Sequence[ReachedProcess]) -> tuple[str, ...]:
    """The process versions that go, by name or because their instances carry a version of variables that goes."""
    names = {each.name for each in contract.header.removes if each.kind == "process"}
    versions = {each.name for each in contract.header.removes if each.kind == "variables"}
    carrying = {one.process_id for one in reached if versions & set(map(str, one.variables_schema_versions))}
    return tuple(sorted(names | carrying))


def _of_processes(contract: Migration, speech: Speech) -> Iterator[Speaker]:
    names = _processes(contract, speech.reached)
    if not names:
        return
    answer = speech.answers.get(Question(Asked.LIVE_ORDERS, names))
    if answer is None or answer.count:
        who = f"of {', '.join(names)}, orders {_UNCOUNTED if answer is None else answer}"
        yield Speaker(SpeakerKind.INSTANCE, who, "let them end: cpq-oms-admin processes status")
    for one in speech.reached:
        if one.process_id in names and one.routes:
            who = f"of {one.process_id} may begin by route {', '.join(one.routes[:_NAMED])}"
            yield Speaker(SpeakerKind.INSTANCE, who, "cpq-oms-admin processes route remove, then processes retire")


def _of_topics(contract: Migration, speech: Speech) -> Iterator[Speaker]:
    for each in removed([contract], "topic"):
        answer = speech.answers.get(Question(Asked.WAITING_EVENTS, (each.name,)))
        if answer is None or answer.count:
            who = f"of topic {each.name}, events {_UNCOUNTED if answer is None else answer}"
            yield Speaker(SpeakerKind.OUTBOX, who, "let relays publish and groups take them, or decide what waits")
        state = speech.topics.get(each.name)
        if state is None or not state.retained:
            continue
        behind = [f"{group} is {count} behind" for group, count in sorted(state.behind.items()) if count]
        who = f"of topic {each.name}, {state.retained} retained{''.join(f', {one}' for one in behind)}"
        yield Speaker(SpeakerKind.RECORD, who, "wait until its retention has taken them")


def _of_keys(contract: Migration, speech: Speech) -> Iterator[Speaker]:
    for each in removed([contract], "redis-value"):
        answer = speech.keys.get(each)
        if answer is None or answer.count:
            who = f"of {each.name}, {'could not be asked' if answer is None else answer}"
            yield Speaker(SpeakerKind.REDIS, who, "wait for the end of their time to live, or delete them")


def _of_standbys(standbys: StandbyState) -> Iterator[Speaker]:
    for server, behind in sorted(standbys.behind.items()):
        if behind is None:
            yield Speaker(SpeakerKind.STANDBY, f"{server} does not answer", "bring it back, or take it out of DB_URL")
        elif behind:
            who = f"{server} is {behind} bytes of log behind"
            yield Speaker(SpeakerKind.STANDBY, who, "wait until it has replayed everything, and ask again")
    if standbys.following > len(standbys.behind):
        who = f"unknown: {standbys.following} servers receive the log, and DB_URL names {len(standbys.behind)} of them"
        yield Speaker(SpeakerKind.STANDBY, who, "name them there, or wait until a copy that is being made has ended")
