"""`make mutants`: plants known bugs one after the other and shows that the harness catches each.

A mutant is a file of tests/mutants: exact texts of the source replaced in a copy of the tree, the units that run from
the copy, the scenario that must notice, and the invariants of which at least one must be violated. A text that is no
longer there, or there more than once, is an error: the mutant then has to be written anew. A mutant that survives
fails the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.faults.__main__ import run_scenario, show
from tests.faults.invariants import INVARIANTS
from tests.faults.scenarios import Scenario, load_scenarios
from tests.faults.trial import Outcome
from tests.faults.units import Units
from tests.support.unit_process import ROOT

FOLDER = ROOT / "tests" / "mutants"
# A mutant that is not noticed at once is noticed by what never comes to rest: that need not be waited out.
BUDGET_SECONDS = 60.0


class MutantDoesNotApplyError(Exception):
    """The source has changed under a mutant; the message names the file and the text."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug.

    Attributes:
        changes: file, text there now, text there instead.
        units: names of the units that run with the bug.
        scenario: the scenario that must notice.
        caught_by: the invariants of which at least one must be violated.
    """

    name: str
    bug: str
    scenario: str
    caught_by: tuple[str, ...]
    units: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]

    def apply(self, tree: Path) -> None:
        """Plant the bug in a tree.

        Raises:
            MutantDoesNotApplyError: a text is not in its file exactly once.
        """
        for file, text, instead in self.changes:
            path = tree / file
            source = path.read_text() if path.is_file() else ""
            if source.count(text) != 1:
                raise MutantDoesNotApplyError(
                    f"{self.name}: in {file} this text is there {source.count(text)} times, not once:\n{text}"
                )
            path.write_text(source.replace(text, instead))


def load_mutants(folder: Path = FOLDER) -> dict[str, Mutant]:
    """Read all mutants, by name.

    Raises:
        KeyError, ValueError: a field is missing, or an invariant or scenario is unknown.
    """
    found = {}
    for path in sorted(folder.glob("*.yml")):
        entry: Mapping[str, Any] = yaml.safe_load(path.read_text())
        mutant = Mutant(
            name=path.stem,
            bug=entry["bug"],
            scenario=entry["scenario"],
            caught_by=tuple(entry["caught_by"]),
            units=tuple(entry["units"]),
            changes=tuple((change["file"], change["text"], change["instead"]) for change in entry["changes"]),
        )
        known = {invariant.code for invariant in INVARIANTS}
        if mutant.scenario not in load_scenarios() or not mutant.caught_by or not known.issuperset(mutant.caught_by):
            raise ValueError(f"{path.name}: unknown scenario or invariant")
        found[mutant.name] = mutant
    return found


@contextmanager
def planted(mutant: Mutant) -> Iterator[Path]:
    """Give a copy of the source tree with the bug in it."""
    with tempfile.TemporaryDirectory(prefix="cpq-oms-mutant-") as folder:
        tree = Path(folder)
        shutil.copytree(ROOT / "app", tree / "app", ignore=shutil.ignore_patterns("__pycache__"))
        mutant.apply(tree)
        yield tree


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutant; `problem` is why it counts as survived, None when it was caught."""

    mutant: Mutant
    problem: str | None
    caught_by: str = ""
    seconds: float = 0.0


def judge(mutant: Mutant, outcome: Outcome) -> str | None:
    """Say why a mutant counts as survived, or None when it was caught."""
    if outcome.trouble is not None and not outcome.violated:
        return f"the trial proves nothing: {outcome.trouble}"
    if not set(outcome.violated) & set(mutant.caught_by):
        return f"violated {', '.join(outcome.violated) or 'nothing'}, expected one of {', '.join(mutant.caught_by)}"
    return None


def run_mutant(units: Units, mutant: Mutant, scenario: Scenario, seed: int) -> Verdict:
    """Plant one bug, run its scenario, and take the bug out again."""
    print(f"  -> {mutant.name}: {mutant.bug}", flush=True)
    started = time.monotonic()
    try:
        with planted(mutant) as tree:
            units.use(tree, mutant.units)
            try:
                outcome = run_scenario(units, scenario, seed, budget=BUDGET_SECONDS)
            finally:
                units.use(ROOT, mutant.units)
    except MutantDoesNotApplyError as error:
        print(f"  <- {error}", flush=True)
        return Verdict(mutant, "does not apply")
    show(outcome)
    return Verdict(mutant, judge(mutant, outcome), ", ".join(outcome.violated), time.monotonic() - started)


def run_mutants(units: Units, mutants: Sequence[Mutant], scenario: Scenario, seed: int) -> list[Verdict]:
    """Run the mutants of one scenario, after the sound source: what that violates too would prove nothing."""
    print(f"  -> the sound source, {scenario.name}: {scenario.claim}", flush=True)
    control = run_scenario(units, scenario, seed, budget=BUDGET_SECONDS)
    show(control)
    if not control.is_sound:
        problem = f"the sound source does not pass {scenario.name} either"
        return [Verdict(mutant, problem) for mutant in mutants]
    return [run_mutant(units, mutant, scenario, seed) for mutant in mutants]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named mutants or all; exit 1 when one survived or does not apply."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=__doc__)
    parser.add_argument("mutant", nargs="*", help="names of files in tests/mutants (default: all)")
    arguments = parser.parse_args(argv)
    seed = int(os.environ.get("CPQ_FAULTS_SEED") or 56)
    mutants, scenarios = load_mutants(), load_scenarios()
    for name in arguments.mutant:
        if name not in mutants:
            parser.error(f"unknown mutant {name!r}; there are {', '.join(mutants)}")
    chosen = [mutant for mutant in mutants.values() if not arguments.mutant or mutant.name in arguments.mutant]
    verdicts: list[Verdict] = []
    print(f"  seed {seed} (CPQ_FAULTS_SEED), {len(chosen)} mutants", flush=True)
    with Units() as units:
        for name, scenario in scenarios.items():
            own = [mutant for mutant in chosen if mutant.scenario == name]
            if own:
                verdicts += run_mutants(units, own, scenario, seed)
    print(f"\n{'mutant':<38} {'scenario':<34} {'s':>6}  result")
    for verdict in verdicts:
        result = f"SURVIVED: {verdict.problem}" if verdict.problem else f"caught by {verdict.caught_by}"
        scenario_name = verdict.mutant.scenario
        print(f"{verdict.mutant.name:<38} {scenario_name:<34} {verdict.seconds:>6.1f}  {result.splitlines()[0]}")
    caught = sum(verdict.problem is None for verdict in verdicts)
    print(f"{caught} of {len(verdicts)} mutants caught; replay: CPQ_FAULTS_SEED={seed}", flush=True)
    return 0 if verdicts and caught == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
