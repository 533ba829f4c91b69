"""A release that dies at any of its steps, with its control machine or with its host, is finished by the same command.

Every case is a release of its own, from the release before it: the one that was killed and finished must leave what one that nobody
disturbed left, and must not have done again what was done. `CPQ_TEST_SEED` repeats the moments.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.bundles import reissued
from tests.support.end_state import difference, end_state
from tests.support.process_tree import descendants, end
from tests.support.rehearsal import UNIFIED
from tests.topology.release.conftest import INVENTORY, ROOT, Environment, Run

PLAYS = {play.get("name") for play in yaml.safe_load((ROOT / "playbooks/release.yml").read_text())}
# Those of other playbooks follow a release when somebody says so.
STEPS = [
    step
    for step in yaml.safe_load((ROOT / "app/contracts/release_steps.yml").read_text())["steps"]
    if step["play"] in PLAYS
]
UNITS = {step["step"]: [f"cpq-oms-{unit}" for unit in step.get("units", ())] for step in STEPS}
SEED = int(os.environ.get("CPQ_TEST_SEED", "56"))
# Longer than most steps of one host take: some deaths come in the middle of a step, some at the end of it.
LATEST_SECONDS = 3.0
BOOT_SECONDS = 120


@dataclass
class Fleet:
    """The environment, and the releases of the same content that it goes through."""

    environment: Environment
    folder: Path
    number: int = 0
    release_id: str = ""
    undisturbed: dict[str, str] = field(default_factory=dict)

    def next_bundle(self) -> Path:
        """Make the next release, and forget the bundle before it."""
        self.number += 1
        bundle = self.folder / str(self.number)
        self.release_id = reissued(self.environment.bundle, bundle, self.number)
        return bundle

    def release(self, bundle: Path) -> Run:
        return self.environment.release("-e", f"release_bundle={bundle}")

    def state(self) -> dict[str, str]:
        """What is on the host, whatever the release is called and whichever processes carry it."""
        found = end_state(self.environment.host, self.release_id)
        found["units"] = re.sub(r"MainPID=[1-9][0-9]*", "MainPID=some", found["units"])
        # Those of former releases stay until there are too many.
        found["releases"] = "\n".join(line for line in found["releases"].splitlines() if "/current" in line)
        return found

    def installed(self) -> set[str]:
        """The folders of this release as they were made: another one in its place has another number."""
        found = self.environment.host.run(
            f"find /opt/cpq-oms/*/releases/{self.release_id} -maxdepth 0 -printf '%p %i %T@\\n' 2>/dev/null",
            check=False,
        )
        return set(found.stdout.splitlines())

    def cut_power(self) -> None:
        """End every process of the host at once and bring it up again."""
        host = self.environment.host
        (UNIFIED / f"cpq-{host.environment}-{host.name}" / "cgroup.kill").write_text("1")
        command = [sys.executable, "bootstrap.py", "hosts", "--env", str(INVENTORY)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=BOOT_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def fleet(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The environment after one later release that nobody disturbed; afterwards it is given back with the former one."""
    fleet = Fleet(environment, tmp_path_factory.mktemp("releases"))
    run = fleet.release(fleet.next_bundle())
    assert run.code == 0, run.output
    fleet.undisturbed = fleet.state()
    yield fleet
    run = environment.release("-e", f"rollback_bundle={environment.bundle}", playbooks=("rollback.yml",))
    assert run.code == 0, run.output


@dataclass(frozen=True)
class Death:
    """What was there when the release died."""

    pids: dict[str, str]
    changed: set[str]
    installed: set[str]


def die(fleet: Fleet, bundle: Path, play: str, seconds: float, what: str) -> Death:
    """Begin a release and let the control machine or the host die so long after a play was announced.

    Fails:
        the release was over before.
    """
    environment = fleet.environment
    before = environment.main_pids()
    said: list[str] = []
    with environment.start("-e", f"release_bundle={bundle}") as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith(f"== {play}"):
                break
        else:
            pytest.fail(f"it ended before {play!r}\n{''.join(said)}")
        time.sleep(seconds)
        assert process.poll() is None, f"it was over within {seconds:.1f} s after {play!r}"
        if what == "host":
            # What it says from here on is of no use, but a full pipe would hold it up.
            reader = threading.Thread(target=process.stdout.read)
            reader.start()
            fleet.cut_power()
            process.wait(BOOT_SECONDS)
            reader.join()
        else:
            end(descendants(process.pid), signal.SIGKILL)
            process.wait()
    after = environment.main_pids()
    return Death(after, {unit for unit in after if after[unit] != before.get(unit)}, fleet.installed())


@pytest.mark.parametrize("what", ["control", "host"])
@pytest.mark.parametrize("step", [step["step"] for step in STEPS])
def test_a_release_that_died_is_finished_by_the_same_command(fleet: Fleet, step: str, what: str) -> None:
    environment = fleet.environment
    chance = random.Random(f"{SEED} {step} {what}")
    bundle = fleet.next_bundle()
    play = next(each["play"] for each in STEPS if each["step"] == step)
    seconds = chance.uniform(0, LATEST_SECONDS)
    print(f"CPQ_TEST_SEED={SEED}: {what} dies {seconds:.1f} s after {play!r}")

    death = die(fleet, bundle, play, seconds, what)
    run = fleet.release(bundle)

    assert run.code == 0, run.output
    assert difference(fleet.undisturbed, fleet.state()) == []
    assert death.installed <= fleet.installed(), "what was installed was installed again"
    if what == "control":
        # A step may have died half done; those before it are over.
        finished = {unit for unit in death.changed if unit.split("@")[0].removesuffix(".service") not in UNITS[step]}
        pids = environment.main_pids()
        assert {unit: pids.get(unit) for unit in finished} == {unit: death.pids[unit] for unit in finished}
    assert re.search(r"^ *order completed +ok", run.output, re.MULTILINE), run.output
    assert environment.last_run() == ("succeeded", "{}")
    assert environment.timer_runs()
    assert environment.sql("SELECT count(*) FROM cpq.release_run WHERE state = 'running'") == ["0"]
    assert environment.admin("release", "verify")["problems"] == []
    again = fleet.release(bundle)
    assert (again.code, again.changed) == (0, 0), again.output
