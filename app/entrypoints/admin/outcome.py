"""What a command found or did, and how it is shown: one JSON document for machines, lines and tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from app.application.release_checks import Check, failures

EXIT_FAILED = 1
EXIT_DRIFT = 3
"""A plan found a difference, or a judgement is against what was judged: nothing is wrong with the command."""
EXIT_INCONCLUSIVE = 4
"""A judgement could not be given, because too little was seen."""

_VERDICT_STYLE = {"passed": "green", "failed": "bold red", "inconclusive": "yellow", "not installed yet": "cyan"}


@dataclass(frozen=True)
class Outcome:
    """The end of one command.

    Attributes:
        changes: one line per difference, found by a plan or made by an apply.
        changed: whether the command changed something; a plan never does.
        problems: why it failed; empty when it did not.
        data: what else it has to say, as JSON values.
        checks: judged measurements, shown as a table.
        table: rows of the same keys, shown to people in place of `data`.
        report: what people read in place of changes and data, ready to be printed.
        exit_code: 0, 1 failed, 3 a plan found a difference or a judgement is against it, 4 a judgement could not be given.
    """

    changes: Sequence[str] = ()
    changed: bool = False
    problems: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    table: Sequence[Mapping[str, Any]] = ()
    report: str = ""
    exit_code: int = 0

    def document(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return {
            "changed": self.changed,
            "changes": list(self.changes),
            "problems": list(self.problems),
            "checks": [asdict(check) for check in self.checks],
            "data": dict(self.data),
            "report": self.report,
            "exit_code": self.exit_code,
        }


def planned(changes: Sequence[str], data: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of a plan: exit 3 when something differs."""
    return Outcome(changes=changes, data=data or {}, exit_code=EXIT_DRIFT if changes else 0)


def applied(changes: Sequence[str], data: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of an apply."""
    return Outcome(changes=changes, changed=bool(changes), data=data or {})


def failed(problems: Sequence[str], data: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of a command that could not do what was asked."""
    return Outcome(problems=problems, data=data or {}, exit_code=EXIT_FAILED)


def judged(checks: Sequence[Check], data: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of release checks: fails by the names of the checks that did."""
    bad = failures(checks)
    problems = [f"{check.name}: {check.measured} (limit: {check.limit}). {check.remedy}." for check in bad]
    return Outcome(checks=checks, problems=problems, data=data or {}, exit_code=EXIT_FAILED if bad else 0)


def show(outcome: Outcome, *, as_json: bool, output: TextIO | None = None, errors: TextIO | None = None) -> None:
    """Print an outcome: results to standard output, problems to standard error."""
    output, errors = output or sys.stdout, errors or sys.stderr
    if as_json:
        json.dump(outcome.document(), output, default=str)
        output.write("\n")
        return
    console = Console(file=output)
    if outcome.checks:
        table = Table("check", "verdict", "measured", "limit")
        for check in outcome.checks:
            style = _VERDICT_STYLE[check.verdict]
            table.add_row(check.name, f"[{style}]{check.verdict}[/{style}]", check.measured, check.limit)
        console.print(table)
    if outcome.report:
        output.write(outcome.report)
    else:
        _show_findings(outcome, console)
    for problem in outcome.problems:
        errors.write(f"{problem}\n")


def _show_findings(outcome: Outcome, console: Console) -> None:
    for change in outcome.changes:
        console.print(f"{'changed' if outcome.changed else 'differs'}: {change}", markup=False, highlight=False)
    if outcome.table:
        table = Table(*(Column(name, overflow="fold") for name in outcome.table[0]))
        for row in outcome.table:
            table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
        console.print(table)
    elif outcome.data:
        console.print_json(json.dumps(dict(outcome.data), default=str))
    if not (outcome.checks or outcome.changes or outcome.data or outcome.problems):
        console.print("nothing to do")
