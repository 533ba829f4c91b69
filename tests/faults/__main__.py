"""Runs fault scenarios on a released environment and ends in a table.

Usage: python -m tests.faults [--subset] [--report FILE] [SCENARIO ...]

CPQ_FAULTS_SEED decides which scenarios a subset has and which moments are hit; without it the clock does. The seed is
printed first and last, and the same seed makes the same choices. CPQ_TEST_INVENTORY_ENV names the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.invariants import INVARIANTS
from tests.faults.scenarios import Scenario, choose, load_scenarios
from tests.faults.trial import Outcome, Trial
from tests.faults.units import Units
from tests.support.unit_process import ROOT

EVIDENCE = ROOT / "dist" / "faults"
# No scenario is begun after this; the one that runs is ended by its own limits.
SUBSET_SECONDS = 420
WHOLE_SECONDS = 3600
# A subset that the time allowed less of says too little.
LEAST_OF_SUBSET = 5


def run_scenario(units: Units, scenario: Scenario, seed: int, *, budget: float | None = None) -> Outcome:
    """Run one scenario; its evidence is kept where something was found, and removed where nothing was."""
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    trial = Trial(
        units,
        scenario.name,
        seed=seed,
        folder=EVIDENCE,
        budget=scenario.budget if budget is None else min(budget, scenario.budget),
        pace=scenario.pace,
    )
    trial.announced = scenario.expect
    outcome = trial.go(scenario.faults)
    trial.close(keep=not outcome.is_sound)
    return outcome


def show(outcome: Outcome) -> None:
    """Print what a trial came to, with the first line of each violation."""
    verdict = "held" if outcome.is_sound else "trouble" if outcome.trouble else "VIOLATED"
    print(f"  <- {outcome.scenario}: {verdict}, {outcome.orders} orders in {outcome.seconds:.1f} s", flush=True)
    if outcome.trouble:
        print(f"     {outcome.trouble}")
    for code, lines in outcome.violations.items():
        for line in lines[:4]:
            print(f"     {code} {line}")


def summarise(outcomes: Sequence[Outcome], skipped: Sequence[str], seed: int) -> None:
    """Print the table: scenario, seed, seconds, invariants checked, result."""
    print(f"\n{'scenario':<34} {'seed':>6} {'orders':>6} {'s':>6}  invariants  result")
    for outcome in outcomes:
        held = sum(1 for lines in outcome.violations.values() if not lines)
        result = outcome.trouble or (f"violated: {', '.join(outcome.violated)}" if outcome.violated else "held")
        print(
            f"{outcome.scenario:<34} {outcome.seed:>6} {outcome.orders:>6} {outcome.seconds:>6.1f}  "
            f"{held:>2} of {len(INVARIANTS)}    {result.splitlines()[0][:90]}"
        )
    for name in skipped:
        print(f"{name:<34} {seed:>6} {'':>6} {'':>6}  {'':>10}  not run: the time was over")
    for invariant in INVARIANTS:
        if invariant.unchecked:
            print(f"not checkable, in {invariant.code} ({invariant.claim}): {invariant.unchecked}")
    print(f"replay: CPQ_FAULTS_SEED={seed} python -m tests.faults SCENARIO", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named scenarios, a subset or all; exit 1 when one was violated, proved nothing, or was not run.

    Of a subset, those that the time does not allow are left out, down to a least number.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="names from tests/faults/scenarios.yml (default: all)")
    parser.add_argument("--subset", action="store_true", help="one scenario of each pool, chosen by the seed")
    parser.add_argument("--report", type=Path, help="write scenario and verdict of each as JSON")
    arguments = parser.parse_args(argv)
    seed = int(os.environ.get("CPQ_FAULTS_SEED") or time.time_ns() // 1_000_000 % 100_000)
    scenarios = load_scenarios()
    for name in arguments.scenario:
        if name not in scenarios:
            parser.error(f"unknown scenario {name!r}; there are {', '.join(scenarios)}")
    if arguments.scenario:
        chosen = [scenarios[name] for name in arguments.scenario]
    else:
        chosen = choose(scenarios, seed) if arguments.subset else list(scenarios.values())
    print(f"  seed {seed} (CPQ_FAULTS_SEED): {', '.join(scenario.name for scenario in chosen)}", flush=True)
    limit = time.monotonic() + (SUBSET_SECONDS if arguments.subset else WHOLE_SECONDS)
    outcomes: list[Outcome] = []
    skipped: list[str] = []
    with Units() as units:
        for scenario in chosen:
            if time.monotonic() > limit:
                skipped.append(scenario.name)
                continue
            print(f"  -> {scenario.name}: {scenario.claim}", flush=True)
            outcomes.append(run_scenario(units, scenario, seed))
            show(outcomes[-1])
    summarise(outcomes, skipped, seed)
    if arguments.report:
        report = {outcome.scenario: outcome.is_sound for outcome in outcomes}
        report |= {} if arguments.subset else dict.fromkeys(skipped, False)
        arguments.report.write_text(json.dumps(report))
    is_enough = len(outcomes) >= LEAST_OF_SUBSET if arguments.subset else not skipped
    return 0 if outcomes and all(outcome.is_sound for outcome in outcomes) and is_enough else 1


if __name__ == "__main__":
    sys.exit(main())
