"""Runs roles' molecule scenarios, one after another on one host, and prints a line for each.

A scenario passes when check mode, converge, idempotence and verify do, and when verify then fails after the scenario's
sabotage.yml has undone the role's main effect: a verify that cannot fail proves nothing. `default` sets nothing that has a
default, `alternative` nearly everything. A role without a scenario fails.

With --minutes those of the newest change come first, then others in an order that each commit shuffles anew; nothing is
begun after that time, and what was left out is named.

Usage: python -m tests.molecule [ROLE ...] [--minutes N] [--report FILE]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.rotation import in_turn, newest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SCENARIOS = ("default", "alternative")
STEP_SECONDS = 900
SHOWN_LINES = 60


class ScenarioError(Exception):
    """The step that failed, and why when the step's own output does not say it."""


def missing_parts(role: Path, name: str) -> list[str]:
    """Name what a scenario needs and this role does not have."""
    scenario = role / "molecule" / name
    wanted = {part: (scenario / part).is_file() for part in ("molecule.yml", "sabotage.yml")}
    wanted["test_*.py"] = any(scenario.glob("test_*.py"))
    return [f"molecule/{name}/{part}" for part, there in wanted.items() if not there]


def molecule(role: Path, log: Path, *command: str, tests: str = "") -> tuple[int, str]:
    """Run one molecule command in the role's folder, with further options for the tests; its output goes to the log and is returned."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
        "PYTEST_ADDOPTS": tests,
    }
    done = subprocess.run(
        [str(BIN / "molecule"), *command],
        cwd=role,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=STEP_SECONDS,
    )
    with log.open("a") as output:
        output.write(f"$ molecule {' '.join(command)}\n{done.stdout}\n")
    return done.returncode, done.stdout


def run_scenario(role: Path, name: str, log: Path) -> None:
    """Run one whole scenario of a role; raise with the step that failed."""
    if missing := missing_parts(role, name):
        raise ScenarioError(f"has no {', '.join(missing)}")
    # State of a run that was killed would make molecule skip the creation of the host.
    molecule(role, log, "reset", "--scenario-name", name)
    try:
        code, output = molecule(role, log, "test", "--scenario-name", name, "--destroy=never")
        if code:
            steps = re.findall(rf"{name} ➜ (\w+): .*(?:[Ff]ailed|Error)", output)
            raise ScenarioError(f"failed at {steps[0] if steps else 'the start'}")
        code, _ = molecule(role, log, "side-effect", "--scenario-name", name)
        if code:
            raise ScenarioError("sabotage.yml itself failed")
        # One is enough, and each may wait for what is gone.
        code, output = molecule(role, log, "verify", "--scenario-name", name, tests="--exitfirst")
        # A test that failed, or what prepares one; not tests that cannot be read.
        if code == 0 or not re.search(r"\b\d+ failed|^\s*ERROR \S+\.py::", output, re.MULTILINE):
            raise ScenarioError("verify does not notice that sabotage.yml undid the role's main effect")
    finally:
        molecule(role, log, "destroy", "--scenario-name", name)


def chosen(known: Mapping[str, Path], names: Sequence[str]) -> list[tuple[str, str]]:
    """List the scenarios of the named roles, or of all: those the newest commit touches, then the others in its own order."""
    scenarios = [(f"roles/{name}", scenario) for name in (names or known) for scenario in SCENARIOS]
    return [
        (path.removeprefix("roles/"), scenario)
        for path, scenario in (scenarios if names else in_turn(scenarios, newest()))
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named roles or all; exit 1 when a scenario fails."""
    parser = argparse.ArgumentParser(prog="make roles", description=__doc__)
    parser.add_argument("role", nargs="*", help="names below roles/ (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no scenario after so many minutes")
    parser.add_argument("--report", type=Path, help="write each scenario that was run, and whether it passed, as JSON")
    arguments = parser.parse_args(argv)
    # Git keeps no empty folders, but a checkout may have left one behind.
    known = {path.parent.parent.name: path.parent.parent for path in sorted(ROOT.glob("roles/*/tasks/main.yml"))}
    for name in arguments.role:
        if name not in known:
            parser.error(f"no role '{name}'; known: {', '.join(known)}")
    logs = Path(tempfile.mkdtemp(prefix="cpq-oms-molecule-"))
    passed: dict[str, bool] = {}
    left: list[str] = []
    with Path("/run/lock/cpq-oms-molecule.lock").open("w") as lock:
        # All roles share one host; a second run waits for its turn.
        fcntl.flock(lock, fcntl.LOCK_EX)
        last = time.monotonic() + arguments.minutes * 60
        scenarios = chosen(known, arguments.role)
        for name, scenario in scenarios:
            title = f"{name}/{scenario}"
            started = time.monotonic()
            if started > last:
                left.append(title)
                continue
            log = logs / f"{name}-{scenario}.log"
            try:
                run_scenario(known[name], scenario, log)
                verdict, passed[title] = "ok", True
            except (ScenarioError, subprocess.TimeoutExpired) as error:
                verdict, passed[title] = f"FAILED {error}", False
            print(f"{title:<32} {time.monotonic() - started:7.1f} s  {verdict}", flush=True)
            if not passed[title] and log.exists():
                print("\n".join(f"    {line}" for line in log.read_text().splitlines()[-SHOWN_LINES:]), flush=True)
    if left:
        print(f"not begun within {arguments.minutes:g} minutes: {', '.join(left)}; make roles runs all")
    if arguments.report:
        arguments.report.write_text(json.dumps(passed))
    if failed := [title for title, is_sound in passed.items() if not is_sound]:
        print(f"{len(failed)} of {len(scenarios)} scenarios failed: {', '.join(failed)}; whole logs in {logs}")
        return 1
    shutil.rmtree(logs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
