"""Runs the test stages in order, prints progress with times and ends with one line: `N passed, N failed`.

A stage is a set of checks. A pytest stage counts its tests; every other tool counts as one check. A failing check never
stops the following ones, except that nothing runs against hosts that did not come up. The hosts are removed at the end,
whatever happened: an interrupt, a SIGTERM, or the end of the make that called it interrupts what runs, as Ctrl-C would, and
then cleans up. Killed by SIGKILL itself, the runner takes what it had started with it, and the next run or
`make down ENV=ci` removes the hosts.

Usage: python -m tests.stages [STAGE ...] [--evidence]   (all stages without arguments)
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bootstrap import COMMANDS
from tests.support.end_state import difference, end_state
from tests.support.process_tree import descendants, end, end_with_parent
from tests.support.released_host import find_host
from tests.support.scratch_environment import ScratchEnvironment
from tests.support.suite_evidence import CommitUnderTest, EvidenceError, commit_under_test
from tests.zones.environment import zones_environment

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ENVIRONMENT = "ci"
# The one that has everything production has.
REHEARSED = "staging"
# No stage may hang for ever: more than twice the budget of the longest, for machines differ as much.
LONGEST_SECONDS = 3600
# The same every time, so that a failure is the change's; other ones by CPQ_TEST_SEED and CPQ_FAULTS_SEED.
SEED = "56"
# What the set-up says when it was interrupted.
RESUMES = "Interrupted; the same command resumes."
# Short enough for every play, or the next one, to be at work still.
LATE_SECONDS = 1.5
# What all stages together may take: on a slower machine those that rotate begin less, and say what they left out.
BUDGET_MINUTES = 60
BEGAN = time.monotonic()
# What is interrupted may clean up for so long before it is killed.
GRACE_SECONDS = 60
LOOK_SECONDS = 0.5


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
    is_named_only: bool = False
    # Where `run` stops beginning after some minutes: what does not, for evidence says that all of a stage passed.
    whole: Callable[[], Result] | None = None


def run_command(name: str, command: Sequence[str]) -> bool:
    """Run one tool from the repository root with its output shown; true when it exits 0."""
    started = time.monotonic()
    print(f"  -> {name}: {' '.join(command)}", flush=True)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    with running(command, env=environment) as process:
        try:
            code = process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"  {name} was ended after {LONGEST_SECONDS} s", flush=True)
            code = -1
    print(
        f"  <- {name}: {'ok' if code == 0 else f'FAILED (exit {code})'} in {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return code == 0


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a session of its own; on leaving, interrupt and then kill what is left of it and all it started.

    In a session of its own it gets the terminal's Ctrl-C from here alone, once, whoever was meant by it.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=_end_with_runner,  # noqa: PLW1509 - no threads here
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            end(descendants(process.pid), signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _end_with_runner() -> None:
    # A background shell hands down an ignored SIGINT, and with it nothing below could be interrupted.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


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


def reported(name: str, *arguments: str) -> Result:
    """Run a module of the tests that has verdicts of its own; each that it reports counts."""
    result = Result()
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        ok = run_command(name, [sys.executable, "-m", f"tests.{name}", *arguments, "--report", report.name])
        content = Path(report.name).read_text()
    for verdict, is_sound in json.loads(content or "{}").items():
        result.add(f"{name} {verdict}", ok=is_sound)
    if not content or (not ok and not result.failed):
        result.add(name, ok=False)
    return result


def faults() -> Result:
    """Faults struck under load, one scenario of each pool; the seed that chooses them is printed, first and last."""
    os.environ.setdefault("CPQ_FAULTS_SEED", SEED)
    return reported("faults", "--subset")


def minutes_for(least: float, most: float, later: float) -> str:
    """How long a stage that rotates may begin things: what is left of the budget, within its bounds.

    Args:
        least, most: minutes that it gets on any machine, and that it needs no more than.
        later: minutes that what comes after it takes, the end of what it begins last included.
    """
    left = BUDGET_MINUTES - (time.monotonic() - BEGAN) / 60 - later
    return f"{min(most, max(least, left)):.1f}"


def topology() -> Result:
    """Modules in turn, for as long as is left beside faults, zones and roles."""
    return pytest("tests/topology", f"--begin-within={minutes_for(6, 18, later=20)}")


def molecule() -> Result:
    """Scenarios in turn, for as long as is left."""
    return reported("molecule", "--minutes", minutes_for(2, 6, later=3))


@dataclass(frozen=True)
class Cut:
    """A moment at which a run of the release is ended: some time after it announced a play."""

    play: str
    seconds: float
    signal: signal.Signals


def plays(playbook: Path) -> list[str]:
    """Name the plays that a run of the playbook announces, in order."""
    found: list[str] = []
    for play in yaml.safe_load(playbook.read_text()):
        found += plays(playbook.parent / play["import_playbook"]) if "import_playbook" in play else [play["name"]]
    return found


@functools.cache
def phases() -> tuple[list[str], list[str]]:
    """Name the plays of `make release`: those that bring hosts, services and bundle, and those of the release itself."""
    *set_up, release = (
        plays(ROOT / playbook) for playbook in (*COMMANDS["release"].playbooks, *COMMANDS["release"].inside)
    )
    return list(itertools.chain(*set_up)), release


def cuts(seed: int) -> list[Cut]:
    """Choose the moments: a kill of the set-up, a Ctrl-C anywhere, a kill of the release itself.

    Each is bound to a line of the run's own output, so that a faster machine moves it along; a play is announced whether
    or not it has anything to do.
    """
    points = random.Random(seed)
    set_up, release = phases()
    chosen = ((set_up, signal.SIGKILL), (set_up + release, signal.SIGINT), (release, signal.SIGKILL))
    return [Cut(points.choice(names), points.uniform(0, LATE_SECONDS), number) for names, number in chosen]


def cut_release(cut: Cut, command: Sequence[str]) -> bool:
    """Run the release until the cut; tell whether it was still running then, and ended as whoever cut it may expect.

    SIGKILL goes to everything at once, as when the control machine loses its power, and SIGINT to the whole terminal, as
    Ctrl-C does: then the set-up has to stop by itself and to say how to go on.
    """
    print(f"  -> {' '.join(command)}, {cut.signal.name} {cut.seconds:.1f} s into: {cut.play}", flush=True)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}}
    with running(command, **options) as release:
        said: list[str] = []
        for line in release.stdout or ():
            said.append(line)
            if line.strip() == f"== {cut.play}":
                break
        else:
            print(f"{''.join(said)[-4000:]}\n  it ended before", flush=True)
            return False
        time.sleep(cut.seconds)
        if release.poll() is not None:
            print("  it ended before", flush=True)
            return False
        if cut.signal == signal.SIGKILL:
            end(descendants(release.pid), signal.SIGKILL)
            return release.wait(GRACE_SECONDS) == -signal.SIGKILL
        os.killpg(release.pid, cut.signal)
        try:
            last, _ = release.communicate(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"  it did not stop within {GRACE_SECONDS} s", flush=True)
            return False
    is_told = release.returncode != 0 and RESUMES in last
    if not is_told:
        print(f"{last[-4000:]}\n  exit {release.returncode}, and '{RESUMES}' was to be said", flush=True)
    return is_told


def environment_up() -> Result:
    """The environment of the tests is released exactly as the README says, under its own name, and survives being cut short.

    What the run that resumes leaves is held to its declaration by all that follows, first of all by a run with nothing to
    do: it must report no change, and nothing on the host may differ after it.
    """
    seed = int(os.environ.get("CPQ_TEST_SEED", SEED))
    print(f"  seed {seed} (CPQ_TEST_SEED)", flush=True)
    command = ["make", "release", f"ENV={ENVIRONMENT}"]
    result = Result()
    for cut in cuts(seed):
        result.add(f"make release is cut short in: {cut.play}", ok=cut_release(cut, command))
    is_resumed = run_command("make release resumes", command)
    result.add("make release resumes", ok=is_resumed)
    if not is_resumed:
        return result
    before = end_state(find_host(ENVIRONMENT))
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as repeat:
        said, _ = repeat.communicate(timeout=LONGEST_SECONDS)
    changed = re.findall(r"^ *changed .*", said, re.MULTILINE)
    is_unchanged = repeat.returncode == 0 and not changed
    if not is_unchanged:
        print("\n".join(changed) or said[-4000:], flush=True)
    print(f"  repeat: {'nothing changed' if is_unchanged else 'FAILED'}", flush=True)
    result.add("a repeat of make release finds nothing to change", ok=is_unchanged)
    differs = difference(before, end_state(find_host(ENVIRONMENT)))
    print("\n".join(differs) if differs else "  the host is as it was before the repeat", flush=True)
    result.add("a repeat of make release leaves the host as it was", ok=not differs)
    return result


def rehearsal() -> Result:
    """A whole environment comes up as the README says, a repeat changes nothing, and it does what its topology is for."""
    result = Result()
    # The test host is done with by now, and its services would take half of the machine from the thirty that follow.
    run_command("make down of the test hosts", ["make", "down", f"ENV={ENVIRONMENT}"])
    command = ["make", "up", f"ENV={REHEARSED}"]
    is_up = run_command(f"make up ENV={REHEARSED}", command)
    result.add(f"make up ENV={REHEARSED}", ok=is_up)
    if not is_up:
        return result
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as repeat:
        said, _ = repeat.communicate(timeout=LONGEST_SECONDS)
    changed = re.findall(r"^ *changed .*", said, re.MULTILINE)
    if repeat.returncode or changed:
        print("\n".join(changed) or said[-4000:], flush=True)
    result.add(
        f"a repeat of make up ENV={REHEARSED} finds nothing to change", ok=repeat.returncode == 0 and not changed
    )
    tests = pytest("tests/rehearsal")
    result.passed += tests.passed
    result.failed += tests.failed
    result.failures += tests.failures
    return result


def clean_up(stages: Collection[str]) -> Result:
    """Everything that the stages made is gone again."""
    made = {
        "release": {"make down ENV=ci": ["make", "down", f"ENV={ENVIRONMENT}"]},
        "rehearsal": {f"make down ENV={REHEARSED}": ["make", "down", f"ENV={REHEARSED}"]},
        # Each role test removes its host itself; one that was killed could not.
        "molecule": {"make down of the role tests": ["make", "down", "ENV=.config/molecule/inventory"]},
    }
    cleaned = commands({name: command for stage in stages for name, command in made.get(stage, {}).items()})
    if "release" in stages:
        left = {kind: found for kind, found in ScratchEnvironment(ROOT, name=ENVIRONMENT).traces().items() if found}
        print(
            "".join(f"  left of {ENVIRONMENT}: {kind}: {found}\n" for kind, found in left.items()), end="", flush=True
        )
        cleaned.add(f"make down ENV={ENVIRONMENT} leaves no trace", ok=not left)
    if "zones" in stages:
        # The tests remove them; those that were killed could not.
        with tempfile.TemporaryDirectory() as folder:
            left = zones_environment(Path(folder)).take_down()
        print("".join(f"  left of the zones: {kind}: {found}\n" for kind, found in left.items()), end="", flush=True)
        cleaned.add("the hosts of the zones leave no trace", ok=not left)
    return cleaned


STAGES = (
    Stage("lint", lint),
    Stage(
        "unit", lambda: pytest("tests/unit", "tests/contract", "tests/migration", "tests/architecture", "tests/process")
    ),
    Stage("release", environment_up),
    Stage("integration", lambda: pytest("tests/integration"), needs_hosts=True),
    Stage("topology", topology, needs_hosts=True, whole=lambda: pytest("tests/topology")),
    Stage("rollback", lambda: pytest("tests/rollback"), needs_hosts=True, is_named_only=True),
    Stage("kill-matrix", lambda: pytest("tests/kill_matrix"), needs_hosts=True, is_named_only=True),
    Stage("faults", faults, needs_hosts=True),
    Stage("zones", lambda: pytest("tests/zones")),
    Stage("rehearsal", rehearsal, is_named_only=True),
    Stage("molecule", molecule, whole=lambda: reported("molecule")),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named stages, or all; exit 1 when any check failed."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(prog="python -m tests.stages", description=__doc__)
    parser.add_argument("stage", nargs="*", help=f"one of: {', '.join(names)} (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running at the end")
    parser.add_argument(
        "--evidence", action="store_true", help="sign what each stage comes to, as evidence of the commit"
    )
    arguments = parser.parse_args(argv)
    for name in arguments.stage:
        if name not in names:
            parser.error(f"unknown stage {name!r}; expected one of {', '.join(names)}")
    chosen = [
        stage for stage in STAGES if stage.name in arguments.stage or not (arguments.stage or stage.is_named_only)
    ]

    try:
        commit = commit_under_test() if arguments.evidence else None
    except EvidenceError as error:
        parser.error(f"--evidence: {error}")
    results: list[tuple[str, Result, float]] = []
    with interruptible():
        try:
            run_stages(chosen, results, commit)
        finally:
            started_at = time.monotonic()
            cleaned = clean_up([] if arguments.keep else [stage.name for stage in chosen])
            if cleaned.passed + cleaned.failed:
                results.append(("down", cleaned, time.monotonic() - started_at))
    return summarise(results)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make an interrupt of every way to end this run; the first one counts, so that nothing disturbs the clean-up after it."""
    interrupts = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupted(number: int, _frame: object) -> None:
        for other in interrupts:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(f"signal {number}")

    for number in interrupts:
        signal.signal(number, interrupted)
    # Nobody else waits for the end: the shell that started a run in the background may be gone long before it.
    if _is_make(os.getppid()):
        end_with_parent()
        threading.Thread(target=_follow_make, args=[os.getppid()], daemon=True).start()
    yield


def _is_make(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip() == "make"
    return False


def _follow_make(make: int) -> None:
    """Follow an interrupt that make alone was sent: it only waits for its children then, and tells them nothing.

    It leaves a trace: make no longer catches the signal. Where it never did, as below a background shell that has
    interrupts ignored, there is nothing to follow.
    """
    if not _catches_interrupts(make):
        return
    while True:
        with suppress(OSError):
            if not _catches_interrupts(make):
                os.kill(os.getpid(), signal.SIGINT)
                return
        time.sleep(LOOK_SECONDS)


def _catches_interrupts(process: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return caught is None or bool(int(caught.group(1), 16) >> (signal.SIGINT - 1) & 1)


def run_stages(
    stages: Sequence[Stage], results: list[tuple[str, Result, float]], commit: CommitUnderTest | None = None
) -> None:
    """Run the stages in order, adding each result as it comes, so that an interrupted run still reports what it had.

    With a commit each result is left as evidence of it; one that cannot be left counts as failed.
    """
    hosts_ok = True
    for stage in stages:
        print(f"== {stage.name}", flush=True)
        started = time.monotonic()
        if stage.needs_hosts and not hosts_ok:
            result = Result()
            result.add(f"{stage.name}: the release to the test hosts failed, so nothing could run", ok=False)
        else:
            result = (stage.whole if commit is not None and stage.whole else stage.run)()
        if stage.name == "release":
            hosts_ok = result.failed == 0
        if commit is not None:
            try:
                commit.keep(stage.name, result.passed, result.failures)
            except EvidenceError as error:
                result.add(f"{stage.name}: no evidence is left: {error}", ok=False)
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
