"""Runs every role's molecule scenario, one after another on one host, and prints a line for each.

A role passes when check mode, converge, idempotence and verify do, and when verify then fails after the scenario's
sabotage.yml has undone the role's main effect: a verify that cannot fail proves nothing. A role without a scenario fails.

Usage: python -m tests.molecule [ROLE ...]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STEP_SECONDS = 900
SHOWN_LINES = 60


class ScenarioError(Exception):
    """The step that failed, and why when the step's own output does not say it."""


def missing_parts(role: Path) -> list[str]:
    """Name what a scenario needs and this role does not have."""
    scenario = role / "molecule/default"
    wanted = {name: (scenario / name).is_file() for name in ("molecule.yml", "sabotage.yml")}
    wanted["test_*.py"] = any(scenario.glob("test_*.py"))
    return [f"molecule/default/{name}" for name, there in wanted.items() if not there]


def molecule(role: Path, log: Path, *command: str) -> tuple[int, str]:
    """Run one molecule command in the role's folder; its output goes to the log and is returned."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
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


def run_scenario(role: Path, log: Path) -> None:
    """Run the whole scenario of one role; raise with the step that failed."""
    if missing := missing_parts(role):
        raise ScenarioError(f"has no {', '.join(missing)}")
    # State of a run that was killed would make molecule skip the creation of the host.
    molecule(role, log, "reset")
    try:
        code, output = molecule(role, log, "test", "--destroy=never")
        if code:
            steps = re.findall(r"default ➜ (\w+): .*(?:[Ff]ailed|Error)", output)
            raise ScenarioError(f"failed at {steps[0] if steps else 'the start'}")
        code, _ = molecule(role, log, "side-effect")
        if code:
            raise ScenarioError("sabotage.yml itself failed")
        code, output = molecule(role, log, "verify")
        if code == 0 or not re.search(r"\b\d+ failed", output):
            raise ScenarioError("verify does not notice that sabotage.yml undid the role's main effect")
    finally:
        molecule(role, log, "destroy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named roles or all; exit 1 when one fails."""
    parser = argparse.ArgumentParser(prog="make molecule", description=__doc__)
    parser.add_argument("role", nargs="*", help="names below roles/ (default: all)")
    names = parser.parse_args(argv).role
    # Git keeps no empty folders, but a checkout may have left one behind.
    known = {path.parent.parent.name: path.parent.parent for path in sorted(ROOT.glob("roles/*/tasks/main.yml"))}
    for name in names:
        if name not in known:
            parser.error(f"no role '{name}'; known: {', '.join(known)}")
    logs = Path(tempfile.mkdtemp(prefix="cpq-oms-molecule-"))
    failed = []
    with Path("/run/lock/cpq-oms-molecule.lock").open("w") as lock:
        # All roles share one host; a second run waits for its turn.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names or known:
            log = logs / f"{name}.log"
            started = time.monotonic()
            try:
                run_scenario(known[name], log)
                verdict = "ok"
            except (ScenarioError, subprocess.TimeoutExpired) as error:
                verdict = f"FAILED {error}"
                failed.append(name)
            print(f"{name:<18} {time.monotonic() - started:7.1f} s  {verdict}", flush=True)
            if name in failed and log.exists():
                print("\n".join(f"    {line}" for line in log.read_text().splitlines()[-SHOWN_LINES:]), flush=True)
    if failed:
        print(f"{len(failed)} of {len(names or known)} roles failed: {', '.join(failed)}; whole logs in {logs}")
        return 1
    shutil.rmtree(logs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
