"""Whether what this release lays open suits those who rely on what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from app.application.release_checks import Check, Verdict
from app.contracts.compatibility import events, interfaces
from app.contracts.compatibility.finding import Finding, Level, worst
from app.contracts.compatibility.interfaces import Interfaces
from app.contracts.loader import DIRECTORY
from app.entrypoints.admin.outcome import EXIT_FAILED, Outcome
from app.entrypoints.admin.wiring import InputError, Session


def command(
    context: typer.Context,
    current: Annotated[Path, typer.Option(help="Contracts of the release: a folder as in a bundle.")] = DIRECTORY,
    previous: Annotated[
        Path | None, typer.Option(help="Contracts of the release before it, instead of an input.")
    ] = None,
) -> Outcome:
    """Refuse OpenAPI, topics, event schemas, variables and settings that break what another release promised.

    Without --previous, standard input says what is installed: {"release_id": this one's, "installed": {release id:
    {interface: {file: text}}, or a folder that holds these}, "given": {unit: [names of settings]}}. `given` is what the
    inventory gives, and may be left out. A release that goes back is judged by the one it leaves.
    """
    session: Session = context.obj
    try:
        mine = interfaces.read(current)
        if previous is not None:
            theirs = interfaces.read(previous)
            return _outcome([_Comparison(str(previous), theirs, mine, interfaces.compare(theirs, mine))])
        document = session.input()
        release_id, given = document["release_id"], document.get("given")
        installed = {name: _installed(files) for name, files in document["installed"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"contracts cannot be read: {error}") from error
    comparisons = []
    for other_id, theirs in sorted(installed.items()):
        is_backward = events.is_earlier(release_id, other_id)
        findings = interfaces.compare(theirs, mine, is_backward=is_backward, given=given)
        comparisons.append(_Comparison(other_id, theirs, mine, findings))
    return _outcome(comparisons)


@dataclass(frozen=True)
class _Comparison:
    beside: str
    theirs: Interfaces
    mine: Interfaces
    findings: Sequence[Finding]

    def rows(self) -> Iterator[Check]:
        """One row per interface: what its worst difference means."""
        both = interfaces.compared(self.theirs, self.mine)
        for part in interfaces.PARTS:
            found = [finding for finding in self.findings if finding.interface == part]
            level = worst(found)
            verdict: Verdict = "failed" if level is Level.BREAKING else "passed" if part in both else "inconclusive"
            measured = f"{level}, {len(found)} differences" if part in both else "one of them has none"
            yield Check(f"{part} beside {self.beside}", verdict, measured, "")

    def lines(self, *, breaking: bool) -> list[str]:
        """One line per difference that breaks, or that does not."""
        return [
            f"beside {self.beside}: {finding}" + ("" if breaking else f" ({finding.level})")
            for finding in self.findings
            if (finding.level is Level.BREAKING) is breaking
        ]


def _installed(files: str | interfaces.Files) -> Interfaces:
    return interfaces.read(Path(files)) if isinstance(files, str) else interfaces.parse(files)


def _outcome(comparisons: Sequence[_Comparison]) -> Outcome:
    problems = [line for each in comparisons for line in each.lines(breaking=True)]
    return Outcome(
        changes=[line for each in comparisons for line in each.lines(breaking=False)],
        problems=problems,
        data={
            "compared": [each.beside for each in comparisons],
            "findings": [{"beside": each.beside, **asdict(one)} for each in comparisons for one in each.findings],
        },
        checks=[row for each in comparisons for row in each.rows()],
        exit_code=EXIT_FAILED if problems else 0,
    )
