"""What one run of the release did, put together from what its tasks told while it ran: the data of the page that it leaves.

Nothing here asks anybody: what was not told is not in it, and the page says so.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

# Worst first.
OUTCOMES = ("unreachable", "failed", "changed", "ok", "skipped")
PHASES = {"release precheck": "before", "release window": "window", "release postcheck": "after"}
MOST_TASKS = 200
AGAIN = "correct what the reason names and give the same command again: finished steps are not taken twice"


def stamp(at: float) -> str:
    """Return a time in seconds since the epoch as people and machines read it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def run_name(at: float) -> str:
    """Name a run by when it began, so that names are in the order of runs."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def command_of(arguments: Iterable[str]) -> str:
    """Return the words of an operators' command before its first option."""
    return " ".join(itertools.takewhile(lambda word: not word.startswith("-"), arguments))


@dataclass
class Failure:
    """A task that failed on a host, for a reason."""

    task: str
    host: str
    message: str
    checks: list[Json] = field(default_factory=list)


@dataclass
class Play:
    """One pass of a play: all of its hosts, or those of one batch."""

    name: str
    began: float
    only_looks: bool
    ended: float = 0.0
    hosts: dict[str, str] = field(default_factory=dict)
    tasks: list[Json] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """The worst that happened to a host; empty where there was none."""
        return next((one for one in OUTCOMES if one in self.hosts.values()), "")


class Account:
    """Hears of plays, tasks and results in their order.

    Args:
        steps: the steps of app/contracts/release_steps.yml by play: step, reason, gate, units.
    """

    def __init__(self, steps: Mapping[str, Json]) -> None:
        self._steps = steps
        self._plays: list[Play] = []
        self._told: Json = {}
        self._bundle: Json = {}
        self._results: list[Json] = []
        self._figures: Json = {}
        self._proof: list[Json] = []
        self._before: dict[str, Json] = {}
        self._after: dict[str, Json] = {}

    @property
    def has_begun(self) -> bool:
        """Whether the release said that it is one, and where its page goes."""
        return bool(self._told)

    @property
    def told(self) -> Json:
        """What it said of itself when it began."""
        return self._told

    @property
    def may_have_changed_something(self) -> bool:
        """Whether it came further than the plays that only look."""
        return bool(self._plays) and not self._plays[-1].only_looks

    def play(self, name: str, at: float, *, only_looks: bool) -> None:
        """A play begins, and the one before it is over."""
        self.end(at)
        self._plays.append(Play(name, at, only_looks))

    def end(self, at: float) -> None:
        """The last play is over."""
        if self._plays and not self._plays[-1].ended:
            self._plays[-1].ended = at

    def task_ended(
        self, name: str, host: str, outcome: str, *, seconds: float, message: str = "", result: Any = None
    ) -> None:
        """A task ended on a host.

        Args:
            name: of the task.
            host: where, or for which host.
            outcome: one of OUTCOMES.
            seconds: how long it took.
            message: why it failed.
            result: what it returned, for the checks that failed.
        """
        if not self._plays:
            return
        play = self._plays[-1]
        worst = min(OUTCOMES.index(outcome), OUTCOMES.index(play.hosts.get(host, "skipped")))
        play.hosts[host] = OUTCOMES[worst]
        if outcome in {"changed", "failed", "unreachable"} and len(play.tasks) < MOST_TASKS:
            play.tasks.append({"task": name, "host": host, "outcome": outcome, "seconds": round(seconds, 3)})
        if outcome in {"failed", "unreachable"}:
            play.failures.append(Failure(name, host, message, failed_checks(result)))

    def began(self, told: Json) -> None:
        """The release says where its page goes and who began it; a second time is passed over, as after the look of a rollback."""
        self._told = self._told or dict(told)

    def judged(self, bundle: Json) -> None:
        """Inventory and bundle were judged: bundle, release_id, units, sha256."""
        self._bundle = bundle

    def looked(self, host: str, found: Json) -> None:
        """A host said what it has: `installed` and `services`. The first look is what was before, the last what is now."""
        seen = {"installed": dict(found.get("installed") or {}), "services": dict(found.get("services") or {})}
        if host in self._before:
            self._after[host] = seen
        else:
            self._before[host] = seen

    def commanded(self, results: Iterable[Json]) -> None:
        """Operators' commands gave their results."""
        self._results += results

    def proven(self, steps: Iterable[Json]) -> None:
        """The smoke test gave its steps."""
        self._proof = list(steps)

    def measured(self, figures: Json) -> None:
        """Prometheus gave its figures, or the reason why not."""
        self._figures = figures

    def document(self, at: float, *, result: str) -> Json:
        """Return all of it as JSON values.

        Args:
            at: when the run ended.
            result: succeeded, failed or interrupted.
        """
        told, begin = self._told, self._result("release begin").get("data", {})
        plan, verdict = self._result("release plan"), self._result("release verdict")
        return {
            "run": told.get("run", ""),
            "kind": told.get("kind", "release"),
            "environment": told.get("environment", ""),
            "operator": told.get("operator", ""),
            "control_machine": told.get("control_machine", ""),
            "began": stamp(told.get("began", at)),
            "ended": stamp(at),
            "result": result,
            "release_id": self._bundle.get("release_id", ""),
            "bundle": self._bundle.get("bundle", ""),
            "bundle_sha256": self._bundle.get("sha256", ""),
            "journal_run": self._journal_run,
            "resumed": bool(begin.get("resumed")),
            "failure": None if result == "succeeded" else self._failure(result),
            "plan": {
                "text": plan.get("report", ""),
                "verdict": (plan.get("data") or {}).get("verdict") or {},
                "template": (plan.get("data") or {}).get("template") or {},
            },
            "way_back": {
                "text": verdict.get("report", ""),
                "way": (verdict.get("data") or {}).get("way", ""),
            },
            "steps": list(self._steps_taken(at)),
            "checks": list(self._checks()),
            "proof": self._proof,
            "changes": [
                {"command": command_of(one["arguments"]), "lines": list(one["changes"])}
                for one in self._results
                if one.get("changed") and one.get("changes")
            ],
            "hosts": list(self._hosts()),
            "record": self._record(self._journal_run),
            "figures": self._figures,
            "drift": None,
            "logs": list(told.get("logs", ())),
            "console": list(told.get("console", ())),
            "support": {"file": "", "problem": ""},
        }

    @property
    def _journal_run(self) -> str:
        """The run's name in the journal of the environment; empty where it was not opened."""
        return str(self._result("release begin").get("data", {}).get("run_id", ""))

    def _result(self, command: str) -> Json:
        """Return the newest result of a command; nothing where it gave none."""
        found = (one for one in reversed(self._results) if command_of(one["arguments"]).startswith(command))
        return next(found, {})

    def _steps_taken(self, at: float) -> Iterator[Json]:
        for play in self._plays:
            if not play.outcome:
                continue
            declared = self._steps.get(play.name, {})
            ended = play.ended or at
            yield {
                "step": declared.get("step", ""),
                "play": play.name,
                "reason": declared.get("reason", ""),
                "gate": declared.get("gate", ""),
                "hosts": sorted(play.hosts),
                "outcome": play.outcome,
                "began": stamp(play.began),
                "seconds": round(ended - play.began, 3),
                "tasks": play.tasks,
            }

    def _checks(self) -> Iterator[Json]:
        for one in self._results:
            if phase := PHASES.get(command_of(one["arguments"])):
                yield from ({"phase": phase, **check} for check in one["checks"])

    def _hosts(self) -> Iterator[Json]:
        """Say of every unit of every host what it ran before, and what it runs now as far as somebody has seen it."""
        now = self._noted()
        doubtful = self._in_between()
        for host, before in sorted(self._before.items()):
            seen = self._after.get(host, {})
            after = seen.get("installed", {})
            units = {*before["installed"], *after, *(unit for place, unit in now if place == host)}
            for unit in sorted(units):
                was = before["installed"].get(unit, "")
                yield {
                    "host": host,
                    "unit": unit,
                    "before": was,
                    "after": after.get(unit) if host in self._after else now.get((host, unit), was),
                    "is_seen": host in self._after,
                    "is_in_between": (host, unit) in doubtful and host not in self._after,
                    "not_running": _not_running(unit, seen.get("services", {})),
                }

    def _noted(self) -> dict[tuple[str, str], str]:
        """Return what hosts run by what steps put on record, and by the plays that activate a unit and went well."""
        found = {
            (host, unit): self._bundle.get("release_id", "")
            for play in self._plays
            if play.outcome == "changed"
            for unit in self._steps.get(play.name, {}).get("units", ())
            for host, outcome in play.hosts.items()
            if outcome == "changed"
        }
        for one in self._results:
            for entry in _written(one):
                if entry["host"] and entry["state"] == "succeeded" and entry["runId"] == self._journal_run:
                    found[entry["host"], entry["step"]] = entry["after"]
        return found

    def _in_between(self) -> set[tuple[str, str]]:
        """Return host and unit of the play that failed: nobody looked at them since."""
        if not self._plays or not self._plays[-1].failures:
            return set()
        play = self._plays[-1]
        units = self._steps.get(play.name, {}).get("units", ())
        return {(host, unit) for host in play.hosts for unit in units}

    def _record(self, run: str) -> Json:
        shown = self._result("release show").get("data", {})
        if run and shown.get("run") == run:
            return {"entries": shown["entries"], "evidence": shown.get("evidence", {}), "is_whole": True}
        mine = {entry["sequence"]: entry for one in self._results for entry in _written(one) if entry["runId"] == run}
        return {"entries": [mine[number] for number in sorted(mine)], "evidence": {}, "is_whole": False}

    def _failure(self, result: str) -> Json:
        """Say which step failed, which rule was broken, what to do, and what came after; the first task that failed is the cause."""
        play = self._plays[-1] if self._plays else Play("", 0.0, only_looks=True)
        declared = self._steps.get(play.name, {})
        if not play.failures:
            why = "it was ended from outside" if result == "interrupted" else "no task said why"
            return {
                **_place(declared, play),
                "host": "",
                "task": "",
                "message": why,
                "rules": [],
                "gate": declared.get("gate", ""),
                "remedy": "give the same command again: finished steps are not taken twice",
                "followed_by": [],
            }
        cause, *rest = play.failures
        rules = [*self._refusals(), *({"rule": one["name"], **_limit(one)} for one in cause.checks)]
        return {
            **_place(declared, play),
            "host": cause.host,
            "task": cause.task,
            "message": cause.message,
            "rules": rules,
            "gate": declared.get("gate", ""),
            "remedy": "; ".join(dict.fromkeys(one["remedy"] for one in rules if one["remedy"])) or AGAIN,
            "followed_by": [{"host": one.host, "task": one.task, "message": one.message} for one in rest],
        }

    def _refusals(self) -> list[Json]:
        """Return what the plan refused, where it was the last thing that was asked."""
        if not self._plays or not self._plays[-1].only_looks:
            return []
        refused: Sequence[Json] = (self._result("release plan").get("data") or {}).get("refusals") or ()
        return [{"rule": one["rule"], "what": one["what"], "remedy": one["remedy"]} for one in refused]


def failed_checks(result: Any) -> list[Json]:
    """Return the judged measurements that failed, of the result of a task."""
    given = result.get("results") if isinstance(result, Mapping) else None
    return [
        check
        for one in given or ()
        if isinstance(one, Mapping)
        for check in one.get("checks") or ()
        if check.get("verdict") == "failed"
    ]


def _not_running(unit: str, services: Mapping[str, Json]) -> list[str]:
    """Name the services of a deployable that are not active; those that run only now and then are none."""
    own = re.compile(rf"cpq-oms-{re.escape(unit)}(@[^.]+)?[.]service")
    found = [] if unit == "admin" else [name for name in services if own.fullmatch(name)]
    return [f"{name} is {services[name]['state']}" for name in sorted(found) if services[name]["state"] != "active"]


def _limit(check: Json) -> Json:
    return {"what": f"{check['measured']} (limit: {check['limit']})", "remedy": check.get("remedy", "")}


def _place(declared: Json, play: Play) -> Json:
    return {"step": declared.get("step", ""), "play": play.name}


def _written(result: Json) -> list[Json]:
    """Return what a command put on record: entries come from it as they are kept, with their text sealed."""
    entries: Iterable[Json] = result.get("data", {}).get("entries", ())
    return [json.loads(entry["body"]) for entry in entries if "body" in entry]
