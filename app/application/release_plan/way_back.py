"""Whether there is a way back now, from what runs to a release before it: what data has to say, and what it said (spec 15.2).

The plan of a release judges before the fact, by what the release would change. This judges after it: what was deployed, applied,
published and stored meanwhile decides, and every ground that no data can decide stands until a person answers for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.application.migration_header import phase_of
from app.application.process_versions import ReachedProcess, dropped
from app.application.release_plan.changes import changes
from app.application.release_plan.described import Bundle, Described, Live, Migration, Surroundings
from app.application.release_plan.model import Answer, Asked, Change, Ground, Question, Verdict, Way
from app.application.release_plan.verdict import grounds, worst_first
from app.contracts.compatibility.finding import Level
from app.contracts.loader import ChangeKind

_INTERFACES = frozenset({"api", "event", "flag", "redis-key", "topic"})
# Events of what has its state in PostgreSQL.
_STORED = ("order.", "quote.")
_UNKNOWN = "cannot be known from data"


@dataclass(frozen=True, slots=True)
class WayBack:
    """What was changed since a release, and what that means to who wants it back.

    Args:
        changes: told as they were made: old is the former release's.
        verdict: its grounds with their questions.
    """

    changes: tuple[Change, ...]
    verdict: Verdict

    @property
    def unserved(self) -> tuple[str, ...]:
        """Processes that the engine has and workers of the former release do not serve."""
        asked = (question for question in self.questions if question.asked is Asked.LIVE_ORDERS)
        return tuple(sorted(name for question in asked for name in question.names))

    @property
    def questions(self) -> tuple[Question, ...]:
        """What live data has to be asked."""
        return tuple(dict.fromkeys(ground.question for ground in self.verdict.grounds if ground.question))


def way_back(
    former: Bundle, running: Sequence[Described], own: Sequence[Migration], live: Live, around: Surroundings
) -> WayBack:
    """Find what stands between what runs and a former release.

    Args:
        former: the release that is to run again.
        running: the releases that are installed.
        own: the migrations of the newest of them.
        live: what the environment says; everything of it has to be known.
        around: inventory and hosts.

    Raises:
        ValueError: the environment did not say what is applied, or what orders can reach.
    """
    if live.reached is None or live.migrations is None:
        raise ValueError("what is applied, and what orders can still reach, has to be known")
    pairs = [*_processes(former, live.reached), *_job_types(former, running), *_migrations(former, own, live)]
    others: list[Change] = []
    for release in running:
        for change in changes(former, release, live, around, is_backward=True):
            if change.kind == "setting" and change.forward is Level.BREAKING:
                pairs.append((change, _setting(change, former.release)))
            elif change.kind in _INTERFACES:
                pairs += [
                    (change, _asking(ground, change, former.release, release)) for ground in grounds(change, live)
                ]
            if change.kind in {*_INTERFACES, "setting", "unit", "variables"}:
                others.append(change)
    found = dict.fromkeys(ground for _, ground in pairs)
    units = [change.name for change in others if change.kind == "unit"]
    if units:
        kept = f"code of {', '.join(dict.fromkeys(units))}: artifacts of {former.release.release_id} take its place"
        found[Ground(Way.POSSIBLE, kept)] = None
    told = dict.fromkeys([change for change, _ in pairs] + others)
    return WayBack(tuple(sorted(told, key=lambda each: (each.kind, each.name, each.text))), Verdict(worst_first(found)))


def judged(found: Verdict, answers: Mapping[Question, Answer | None], attested: str = "") -> Verdict:
    """The verdict with what data said.

    Args:
        found: the grounds with their questions.
        answers: by question; None where the count did not end within the statement timeout.
        attested: why a person, who is named in it, answers for what no data knows; empty where nobody does.
    """
    return Verdict(worst_first(_judged(ground, answers, attested) for ground in found.grounds))


def roll_forward(verdict: Verdict, running: str) -> tuple[str, ...]:
    """What a release has to be that mends what runs where there is no way back, a line each."""
    kept = dict.fromkeys(ground.keep for ground in verdict.grounds if ground.way is not Way.POSSIBLE and ground.keep)
    return (
        f"build a bundle that is later than {running}, of its generation or the next, with the fault corrected",
        *(f"it must {each}" for each in kept),
        "release it: ansible-playbook release.yml -i ENV -e release_bundle=DIR; finished steps are not taken twice",
    )


def _judged(ground: Ground, answers: Mapping[Question, Answer | None], attested: str) -> Ground:
    if ground.way is not Way.CONDITIONAL:
        return ground
    if ground.question is None:
        if attested:
            return replace(ground, way=Way.POSSIBLE, answer=f"{_UNKNOWN}; attested: {attested}")
        return replace(ground, answer=_UNKNOWN)
    answer = answers[ground.question]
    if answer is None:
        return replace(ground, answer="could not be counted within the statement timeout")
    return replace(ground, way=Way.FORWARD_ONLY if answer.count else Way.POSSIBLE, answer=str(answer))


def _processes(former: Bundle, reached: Iterable[ReachedProcess]) -> Iterator[tuple[Change, Ground]]:
    """A process that is deployed and has no order stays in the engine without harm: nobody is routed to it by the former."""
    release = former.release
    declared = release.declared("job_types") or {}
    served, versions = set(declared.get("job_types", ())), set(declared.get("variables_schema_versions", ()))
    known = (release.declared("processes") or {}).get("processes", {})
    for process in reached:
        name = process.process_id
        keep = f"serve {name}: {', '.join(process.job_types)}, variables {', '.join(map(str, process.variables_schema_versions))}"
        if dropped([process], served, versions):
            if process.routes:
                what = f"a route sends new orders to {name}, which workers of {release.release_id} do not serve"
                said = f"{', '.join(process.routes)}: cpq-oms-admin processes route remove, and ask again"
                yield (
                    _change("process", name, "is routed to", Level.BREAKING),
                    Ground(Way.FORWARD_ONLY, what, "routes that count", said, None, keep),
                )
            lacks = [each for each in process.job_types if each not in served]
            lacks += [f"variables {each}" for each in process.variables_schema_versions if each not in versions]
            because = f"workers of {release.release_id} do not serve {name}: {', '.join(lacks)}"
            question = Question(Asked.LIVE_ORDERS, (name,))
            change = _change("process", name, "is new, and not served by the former", Level.BREAKING)
            yield (
                change,
                Ground(Way.CONDITIONAL, because, "orders whose process is pending or alive", "", question, keep),
            )
        elif name not in known:
            because = (
                f"{release.release_id} does not know {name}: its workers serve it, and nobody starts what is pending"
            )
            question = Question(Asked.PENDING_ORDERS, (name,))
            change = _change("process", name, "is new", Level.COMPATIBLE)
            yield (
                change,
                Ground(Way.CONDITIONAL, because, "orders whose process is not started yet", "", question, keep),
            )


def _job_types(former: Bundle, running: Sequence[Described]) -> Iterator[tuple[Change, Ground]]:
    had = set((former.release.declared("job_types") or {}).get("job_types", ()))
    has = {name for release in running for name in (release.declared("job_types") or {}).get("job_types", ())}
    if names := tuple(sorted(has - had)):
        listed = ", ".join(names)
        because = (
            f"{former.release.release_id} does not know the job types {listed}: their calls and callbacks stay open"
        )
        question = Question(Asked.OPEN_STEPS, names)
        ground = Ground(
            Way.CONDITIONAL, because, "orders with such a step that is not settled", "", question, f"serve {listed}"
        )
        for name in names:
            yield _change("job-type", name, "is new", Level.BREAKING), ground


def _migrations(former: Bundle, own: Sequence[Migration], live: Live) -> Iterator[tuple[Change, Ground]]:
    """The ledger has what is applied; of a backfill, which runs in batches, its end, and another table its beginning."""
    applied = live.migrations or {}
    if former.migrations is None:
        because = f"{former.release.release_id} is from before bundles held migrations: what it looks at is not told"
        yield _change("contract", "migrations", "are not told", Level.BREAKING), Ground(Way.CONDITIONAL, because)
        return
    known = {each.name for each in former.migrations}
    phases = {name: phase_of(name) for name in applied} | {each.name: each.phase for each in own}
    for name, phase in sorted(phases.items()):
        if name in known:
            continue
        if phase == "expand":
            if name in applied:
                because = f"{name} stays in the database; {former.release.release_id} runs on it"
                yield _change("expand", name, "is applied", Level.COMPATIBLE), Ground(Way.POSSIBLE, because)
            continue
        kind: ChangeKind = "backfill" if phase == "backfill" else "contract"
        if name in applied:
            what = "changed data" if kind == "backfill" else "removed structures"
            because = f"{name} {what} that {former.release.release_id} reads as it was"
            answer = f"applied by {applied[name].release_id}"
            keep = f"read what {name} left, and have the file"
            yield (
                _change(kind, name, "is applied", Level.BREAKING),
                Ground(Way.FORWARD_ONLY, because, "the ledger of migrations", answer, None, keep),
            )
        elif kind == "backfill" and live.begun is not None:
            yield _unfinished(name, former.release.release_id, live.begun.get(name))
        elif kind == "backfill":
            because = f"{name} is not finished: whether it was begun"
            ask = "Who would have begun it? The database is from before it keeps that"
            keep = f"read data before and after {name}"
            yield (
                _change(kind, name, "is not finished", Level.BREAKING),
                Ground(Way.CONDITIONAL, because, ask, "", None, keep),
            )
        else:
            because = f"{name} is not applied"
            yield _change(kind, name, "is pending", Level.COMPATIBLE), Ground(Way.POSSIBLE, because)


def _setting(change: Change, former: Described) -> Ground:
    """The inventory is at hand, and was held to the former's settings."""
    because = f"setting {change.name}: the inventory does not suit {former.release_id}"
    said = f"{change.text}; let group_vars go back with it"
    return Ground(Way.FORWARD_ONLY, because, "the inventory", said, None, f"know the setting {change.name}")


def _asking(ground: Ground, change: Change, former: Described, running: Described) -> Ground:
    """A ground of an interface with the question that answers it, where data can."""
    if ground.way is not Way.CONDITIONAL:
        return ground
    keep = f"take what {change.kind} {change.name} has brought"
    return replace(ground, question=_question(change, former, running), keep=keep)


def _unfinished(name: str, former: str, begun: str | None) -> tuple[Change, Ground]:
    if begun is None:
        because = f"{name} is not begun"
        return _change("backfill", name, "is pending", Level.COMPATIBLE), Ground(Way.POSSIBLE, because)
    because = f"{name} changes data that {former} reads as it was, and is not finished"
    keep = f"read data before and after {name}, and have the file"
    ground = Ground(Way.FORWARD_ONLY, because, "cpq.migration_backfill", begun, None, keep)
    return _change("backfill", name, "is begun", Level.BREAKING), ground


def _question(change: Change, former: Described, running: Described) -> Question | None:
    name, _, field = change.name.partition(" ")
    if change.kind in {"event", "topic"} and change.old is None and not field:
        return _published(change, former, running)
    if change.kind == "event":
        had, has = (each.documents["events"].get(name) for each in (former, running))
        return _with_values(_new_values(had, has, field), field, is_stored=name.startswith(_STORED))
    if change.kind == "api" and change.name.endswith("/state/enum"):
        had, has = (each.documents.get("openapi") for each in (former, running))
        return _with_values(_new_values(had, has, "state"), "state", is_stored=True)
    return None


def _with_values(values: tuple[str, ...], field: str, *, is_stored: bool) -> Question | None:
    if not values:
        return None
    if field == "state" and is_stored:
        return Question(Asked.STATES, values)
    if field == "eventType":
        return Question(Asked.EVENTS_OF_TYPES, values)
    return Question(Asked.EVENTS_WITH_VALUES, values, field)


def _published(change: Change, former: Described, running: Described) -> Question | None:
    """Events of a new topic, or of the new topics that carry a new schema."""
    had = {each.get("name") for each in former.documents["topics"].values()}
    new = sorted(
        each["name"]
        for file, each in running.documents["topics"].items()
        if each["name"] not in had and change.name in {file.removesuffix(".yml"), each.get("schema")}
    )
    return Question(Asked.EVENTS_ON_TOPICS, tuple(new)) if new else None


def _new_values(former: Any, running: Any, field: str) -> tuple[str, ...]:
    had, has = (
        {str(value) for found in _enumerations(document, field) for value in found} for document in (former, running)
    )
    return tuple(sorted(has - had))


def _enumerations(document: Any, field: str) -> Iterator[Sequence[Any]]:
    """The lists of allowed values that properties of one name have, anywhere in a document."""
    if isinstance(document, Mapping):
        for name, part in document.items():
            if name == field and isinstance(part, Mapping) and "enum" in part:
                yield part["enum"]
            yield from _enumerations(part, field)
    elif isinstance(document, list):
        for part in document:
            yield from _enumerations(part, field)


def _change(kind: ChangeKind, name: str, text: str, backward: Level) -> Change:
    return Change(kind, name, None, "there", "", text, Level.COMPATIBLE, backward)
