"""Runs the test stages in order, prints progress with times and ends with one line: `N passed, N failed`.

A stage is a set of checks. A pytest stage counts its tests; every other tool counts as one check. A failing check never
stops the following ones, except that nothing runs against hosts that did not come up. The hosts are removed at the end,
whatever happened.

Usage: python -m tests.stages [STAGE ...]   (all stages without arguments)
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ENVIRONMENT = "ci"
# No stage may hang for ever: three times the budget of the longest.
LONGEST_SECONDS = 2400
KILLS = 2


@dataclass
class Result:
    """What one stage came to: counts of checks and the names of those that failed."""

    passed: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, *, ok: bool) -> None:
        """Count one check."""
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            self.failures.append(name)


@dataclass(frozen=True)
class Stage:
    """One row of the table in CONTRIBUTING."""

    name: str
    run: Callable[[], Result]
    needs_hosts: bool = False


def run_command(name: str, command: Sequence[str]) -> bool:
    """Run one tool from the repository root with its output shown; true when it exits 0."""
    started = time.monotonic()
    print(f"  -> {name}: {' '.join(command)}", flush=True)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    try:
        code = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False, timeout=LONGEST_SECONDS
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"  {name} was ended after {LONGEST_SECONDS} s", flush=True)
        code = -1
    print(
        f"  <- {name}: {'ok' if code == 0 else f'FAILED (exit {code})'} in {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return code == 0


def commands(checks: dict[str, list[str]]) -> Result:
    """Run each tool as one check."""
    result = Result()
    for name, command in checks.items():
        result.add(name, ok=run_command(name, command))
    return result


def pytest(*paths: str) -> Result:
    """Run tests and count them by pytest's own report; a run that collects nothing is a failure."""
    result = Result()
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [str(BIN / "pytest"), "-q", "--durations=5", f"--junitxml={report.name}", *paths]
        ok = run_command("pytest", command)
        content = Path(report.name).read_bytes()
    cases = list(ET.fromstring(content).iter("testcase")) if content else []
    for case in cases:
        # A skipped test proves nothing, so it counts as failed: hosts and services are there, or the stage did not run.
        bad = [child for child in case if child.tag in {"failure", "error", "skipped"}]
        result.add(f"{case.get('classname')}.{case.get('name')}", ok=not bad)
    if not cases or (not ok and not result.failed):
        result.add(f"pytest {' '.join(paths)}", ok=False)
    return result


def lint() -> Result:
    """Linters, types, import contracts and the migration linter."""
    migrations = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "migrations").glob("*.sql") if ".rollback." not in path.name
    )
    return commands(
        {
            "ruff check": ["ruff", "check", "."],
            "ruff format": ["ruff", "format", "--check", "."],
            "mypy": ["mypy"],
            "import-linter": ["lint-imports", "--no-logo"],
            "yamllint": ["yamllint", "-s", "-c", ".config/yamllint.yml", "."],
            "ansible-lint": ["ansible-lint", "-q", "-c", ".config/ansible-lint.yml"],
            "squawk": ["squawk", "--config", ".config/squawk.toml", *migrations],
        }
    )


def kill_release(seconds: float) -> None:
    """Start the release and kill it with all its children after some seconds, as a power cut of the terminal would."""
    print(f"  -> make release ENV={ENVIRONMENT}, killed after {seconds:.1f} s", flush=True)
    release = subprocess.Popen(
        ["make", "release", f"ENV={ENVIRONMENT}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        release.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(release.pid, signal.SIGKILL)
        release.wait()


def environment_up() -> Result:
    """The environment of the tests is released exactly as the README says, under its own name, and survives kills.

    The first runs are killed at seeded random points. What the last one leaves is held to its declaration by all that
    follows, first of all by a run with nothing to do: a trace of a kill would show as a change there.
    """
    seed = int(os.environ.get("CPQ_TEST_SEED", "56"))
    points = random.Random(seed)
    print(f"  seed {seed} (CPQ_TEST_SEED)", flush=True)
    for _ in range(KILLS):
        kill_release(points.uniform(5, 85))
    resumed = commands({"make release resumes": ["make", "release", f"ENV={ENVIRONMENT}"]})
    repeat = subprocess.run(
        ["make", "release", f"ENV={ENVIRONMENT}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_SECONDS,
    )
    changed = re.findall(r"^ *changed .*", repeat.stdout, re.MULTILINE)
    is_unchanged = repeat.returncode == 0 and not changed
    if not is_unchanged:
        print("\n".join(changed) or repeat.stdout[-4000:], flush=True)
    print(f"  repeat: {'nothing changed' if is_unchanged else 'FAILED'}", flush=True)
    resumed.add("a repeat of make release finds nothing to change", ok=is_unchanged)
    return resumed


def environment_down() -> Result:
    """Everything that the stages made is gone again."""
    return commands({"make down ENV=ci": ["make", "down", f"ENV={ENVIRONMENT}"]})


STAGES = (
    Stage("lint", lint),
    Stage(
        "unit", lambda: pytest("tests/unit", "tests/contract", "tests/migration", "tests/architecture", "tests/process")
    ),
    Stage("release", environment_up),
    Stage("integration", lambda: pytest("tests/integration"), needs_hosts=True),
    Stage("topology", lambda: pytest("tests/topology"), needs_hosts=True),
    Stage("molecule", lambda: commands({"molecule": ["make", "molecule"]})),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named stages, or all; exit 1 when any check failed."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(prog="python -m tests.stages", description=__doc__)
    parser.add_argument("stage", nargs="*", help=f"one of: {', '.join(names)} (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running at the end")
    arguments = parser.parse_args(argv)
    for name in arguments.stage:
        if name not in names:
            parser.error(f"unknown stage {name!r}; expected one of {', '.join(names)}")
    chosen = [stage for stage in STAGES if not arguments.stage or stage.name in arguments.stage]

    def interrupted(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    signal.signal(signal.SIGTERM, interrupted)
    results: list[tuple[str, Result, float]] = []
    try:
        run_stages(chosen, results)
    finally:
        if "release" in {stage.name for stage in chosen} and not arguments.keep:
            started = time.monotonic()
            results.append(("down", environment_down(), time.monotonic() - started))
    return summarise(results)


def run_stages(stages: Sequence[Stage], results: list[tuple[str, Result, float]]) -> None:
    """Run the stages in order, adding each result as it comes, so that an interrupted run still reports what it had."""
    hosts_ok = True
    for stage in stages:
        print(f"== {stage.name}", flush=True)
        started = time.monotonic()
        if stage.needs_hosts and not hosts_ok:
            result = Result()
            result.add(f"{stage.name}: the release to the test hosts failed, so nothing could run", ok=False)
        else:
            result = stage.run()
        if stage.name == "release":
            hosts_ok = result.failed == 0
        results.append((stage.name, result, time.monotonic() - started))


def summarise(results: Sequence[tuple[str, Result, float]]) -> int:
    """Print the table, the failures and the closing line; return the exit code."""
    print("\n== summary", flush=True)
    for name, result, seconds in results:
        print(f"  {name:<12} {result.passed:>5} passed {result.failed:>4} failed {seconds / 60:>7.1f} min")
    for _, result, _ in results:
        for failure in result.failures:
            print(f"  FAILED {failure}")
    passed = sum(result.passed for _, result, _ in results)
    failed = sum(result.failed for _, result, _ in results)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
