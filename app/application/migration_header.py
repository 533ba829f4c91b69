"""What a migration says of itself in the comments at its head, and what a set of migrations must say.

A line is `-- key: value`. Files that were applied before a key was asked for are never edited, so they may lack it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

Phase = Literal["expand", "backfill", "contract"]
RemovedKind = Literal[
    "table", "column", "function", "view", "index", "constraint",
    "process", "variables", "topic", "redis-value",
]  # fmt: skip
"""What a contract migration takes away: objects of the database, and forms that only code of before understands."""

DATABASE_KINDS = frozenset({"table", "column", "function", "view", "index", "constraint"})
FIRST_WITH_BUDGET = 26
"""The number of the first migration that must have a budget."""

_NAME = re.compile(r"(?P<number>[0-9]{4})_(?P<phase>expand|backfill|contract)_[a-z0-9_]+")
_LINE = re.compile(r"-- (?P<key>[a-z-]+): *(?P<value>\S.*?) *")
_KEYS = frozenset({"depends", "transactional", "replaced-by", "needs", "removes", "last-needed-by", "budget"})
_BUDGET = re.compile(r"lock (?P<lock>\S+), duration (?P<duration>\S+)")
_DURATION = re.compile(r"(?P<number>[1-9][0-9]*)(?P<unit>ms|s|min)")
_UNITS = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "min": timedelta(minutes=1)}
_GENERATION = re.compile(r"generation (?P<number>[1-9][0-9]*)")
_DROPPED = re.compile(
    r"\bDROP\s+(?P<kind>TABLE|COLUMN|FUNCTION|VIEW|INDEX|CONSTRAINT)\s+(?:CONCURRENTLY\s+)?(?:IF\s+EXISTS\s+)?"
    r"(?P<name>[a-z0-9_.]+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a migration may cost.

    Args:
        lock: for how long it may hold a lock that readers or writers of a table wait for.
        duration: for how long it may run; of a backfill, each batch.
    """

    lock: timedelta
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that a contract migration takes away, such as column cpq.quote.note or redis-value catalog_offering 1."""

    kind: RemovedKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Header:
    """The head of one file; what a key is for, migrations/README.md says.

    Args:
        replaced_by: the expand migration that brought what replaces the structures it removes.
        needs: migrations that must be done before.
        removes: what it takes away.
        last_needed_by: the last generation that needs what it takes away.
        budget: what it may cost; None in a file from before budgets.
    """

    replaced_by: str | None = None
    needs: tuple[str, ...] = ()
    removes: tuple[Removed, ...] = ()
    last_needed_by: int | None = None
    budget: Budget | None = None


def phase_of(name: str) -> Phase | None:
    """The phase in a migration's name; None where it has none."""
    matched = _NAME.fullmatch(name)
    if matched is None:
        return None
    return next(phase for phase in get_args(Phase) if phase == matched["phase"])


def read_header(name: str, text: str) -> Header:
    """Read the comments before the first statement.

    Raises:
        ValueError: a value is not what its key takes; the message names file and line.
    """
    found: dict[str, list[str]] = {}
    for line in _head(text):
        matched = _LINE.fullmatch(line)
        if matched and matched["key"] in _KEYS:
            found.setdefault(matched["key"], []).append(matched["value"])
    for key in ("replaced-by", "last-needed-by", "budget"):
        if len(found.get(key, ())) > 1:
            raise ValueError(f"migrations/{name}.sql: -- {key}: is there {len(found[key])} times, expected once")
    replaced_by, generation, budget = (found.get(key, [""])[0] for key in ("replaced-by", "last-needed-by", "budget"))
    return Header(
        replaced_by=replaced_by or None,
        needs=tuple(found.get("needs", ())),
        removes=tuple(_removed(name, value) for value in found.get("removes", ())),
        last_needed_by=_generation(name, generation) if generation else None,
        budget=_budget(name, budget) if budget else None,
    )


def header_problems(files: Mapping[str, str]) -> list[str]:
    """Say, a line each with its file, what the heads of a set of migrations lack or contradict.

    Args:
        files: text by name, without .sql.
    """
    problems: list[str] = []
    for name, text in sorted(files.items()):
        try:
            header = read_header(name, text)
        except ValueError as error:
            problems.append(str(error))
            continue
        problems += (f"migrations/{name}.sql: {problem}" for problem in _problems(name, text, header, files))
    return problems


def _problems(name: str, text: str, header: Header, files: Mapping[str, str]) -> Iterator[str]:
    phase = phase_of(name)
    if phase is None:
        yield "the name must be NNNN_<expand|backfill|contract>_<words>"
        return
    if header.budget is None and (phase != "expand" or int(name[:4]) >= FIRST_WITH_BUDGET):
        yield "has no budget; expected -- budget: lock 200ms, duration 5s"
    for needed in header.needs:
        if needed not in files or needed >= name:
            yield f"-- needs: {needed}: there is no such migration before it"
    if phase != "contract":
        if header.removes or header.last_needed_by or header.replaced_by:
            yield "-- removes:, -- last-needed-by: and -- replaced-by: belong to a contract migration"
        return
    yield from _contract_problems(name, text, header, files)


def _contract_problems(name: str, text: str, header: Header, files: Mapping[str, str]) -> Iterator[str]:
    if header.replaced_by is None:
        yield "does not say what replaces what it removes; expected -- replaced-by: NNNN_expand_…"
    elif header.replaced_by not in files or header.replaced_by >= name or phase_of(header.replaced_by) != "expand":
        yield f"-- replaced-by: {header.replaced_by}: there is no such expand migration before it"
    else:
        between = [each for each in files if header.replaced_by < each < name and phase_of(each) == "backfill"]
        for backfill in sorted(set(between) - set(header.needs)):
            yield f"does not say that it needs {backfill}; expected -- needs: {backfill}"
    if header.last_needed_by is None:
        yield "does not say who needed it last; expected -- last-needed-by: generation N"
    if not header.removes:
        yield "does not say what it removes; expected -- removes: column cpq.table.column"
    said = {(each.kind, _last(each.name)) for each in header.removes if each.kind in DATABASE_KINDS}
    does = {(match["kind"].lower(), _last(match["name"])) for match in _DROPPED.finditer(_body(text))}
    for kind, dropped in sorted(does - said):
        yield f"drops {kind} {dropped} and does not say so; expected -- removes: {kind} cpq.…{dropped}"
    for kind, dropped in sorted(said - does):
        yield f"-- removes: {kind} {dropped}: no statement drops it"


def _head(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("--"):
            return
        yield line


def _body(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def _last(name: str) -> str:
    """The last part of a name, without arguments: a statement may name a column alone, a head names it whole."""
    return name.partition("(")[0].rpartition(".")[2].lower()


def _removed(name: str, value: str) -> Removed:
    kind, _, rest = value.partition(" ")
    for known in get_args(RemovedKind):
        if kind == known and rest:
            return Removed(known, rest.strip())
    kinds = ", ".join(get_args(RemovedKind))
    raise ValueError(f"migrations/{name}.sql: -- removes: {value}: expected one of {kinds}, and its name")


def _generation(name: str, value: str) -> int:
    matched = _GENERATION.fullmatch(value)
    if matched is None:
        raise ValueError(f"migrations/{name}.sql: -- last-needed-by: {value}: expected generation N")
    return int(matched["number"])


def _budget(name: str, value: str) -> Budget:
    matched = _BUDGET.fullmatch(value)
    parts = matched and [_DURATION.fullmatch(matched[part]) for part in ("lock", "duration")]
    if not parts or not all(parts):
        raise ValueError(f"migrations/{name}.sql: -- budget: {value}: expected lock 200ms, duration 5s")
    lock, duration = (int(part["number"]) * _UNITS[part["unit"]] for part in parts if part)
    if lock > duration:
        raise ValueError(f"migrations/{name}.sql: -- budget: {value}: a lock is held no longer than the migration runs")
    return Budget(lock, duration)
