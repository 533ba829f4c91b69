"""Every way out of a release leaves its report: runs of Ansible on this machine, with the plays' own names and modules that are only played."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contracts.loader import DIRECTORY, load_release_steps

ROOT = DIRECTORY.parents[1]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
STEPS = {step.step: step.play for step in load_release_steps().steps}
GATES = {step.step: step.gate for step in load_release_steps().steps}
DEBUG = "ansible.builtin.debug"
FAIL = "ansible.builtin.fail"
# Never there: a rescue cannot catch it.
GONE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def play(step: str, *tasks: dict[str, Any], hosts: str = "localhost", looks: bool = False) -> dict[str, Any]:
    """A play with the name of a step."""
    found = {
        "name": STEPS[step],
        "hosts": hosts,
        "gather_facts": False,
        "any_errors_fatal": True,
        "tasks": [{"name": f"Task {number} of {step}", **task} for number, task in enumerate(tasks, start=1)],
    }
    return {**found, "tags": ["plan"]} if looks else found


@dataclass
class Runs:
    """Plays that are run as a release is."""

    folder: Path

    @property
    def begin(self) -> dict[str, Any]:
        """The task with which a report begins, as release.yml has it."""
        plays = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
        task: dict[str, Any] = plays[0]["tasks"][0]
        return task

    def command(self, plays: Sequence[dict[str, Any]], *words: str) -> list[str]:
        """How Ansible is called for plays."""
        given = {
            "all": {
                "vars": {
                    "ansible_python_interpreter": sys.executable,
                    "ansible_connection": "local",
                    "cpq_state_dir": str(self.folder / "state"),
                    "cpq_env": "trial",
                    "cpq_tls": True,
                    "cpq_units": {"console": {"http_port": 8443}},
                },
                "hosts": {"one-1": {"ansible_host": "10.0.0.1"}, "gone-1": GONE},
                "children": {group: {"hosts": {"one-1": {}}} for group in ("admin", "console", "observability")},
            }
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(given))
        first = play("judge", looks=True)
        first["tasks"] = [self.begin]
        path = self.folder / "release.yml"
        for one in (first, *plays):
            one["vars_files"] = [str(ROOT / "playbooks/release/vars.yml")]
        path.write_text(yaml.safe_dump([first, *plays], sort_keys=False))
        return [str(ANSIBLE), "-i", str(self.folder / "hosts.yml"), str(path), *words]

    @property
    def surroundings(self) -> dict[str, str]:
        """What the process is given."""
        return {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

    def run(self, *plays: dict[str, Any], words: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run plays after that which begins."""
        return subprocess.run(
            self.command(plays, *words),
            cwd=ROOT,
            env=self.surroundings,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @property
    def reports(self) -> list[Path]:
        """The folders of the reports that were left."""
        return sorted((self.folder / "state/releases").glob("*"))

    @property
    def report(self) -> dict[str, Any]:
        """The only one, as data."""
        [folder] = self.reports
        document: dict[str, Any] = json.loads((folder / "report.json").read_text())
        assert document["failure"] is None or document["failure"]["play"] in (folder / "report.html").read_text()
        return document


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_release_that_went_well_leaves_its_report_and_says_where(runs: Runs) -> None:
    """What fails and is no failure of the release is none in its report either.

    What the report asks for is asked as in a release: of an admin host without commands, and of a Prometheus that may not be there.
    """
    tolerated = {FAIL: {"msg": "nobody minds"}, "failed_when": False}
    ignored = {FAIL: {"msg": "nobody minds"}, "ignore_errors": True}
    asked = yaml.safe_load((ROOT / "playbooks/release/report.yml").read_text())
    kept = {"delegate_to", "run_once", "ignore_unreachable", "ignore_errors", "failed_when"}
    unreachable = [
        {"ansible.builtin.ping": {}, **{key: task[key] for key in kept & {*task}}, "delegate_to": "gone-1"}
        for task in asked
    ]

    including = {"ansible.builtin.include_tasks": str(ROOT / "playbooks/release/report.yml")}

    done = runs.run(play("api", tolerated, ignored, *unreachable, including, hosts="one-1"))

    assert done.returncode == 0, done.stdout + done.stderr
    report = runs.report
    assert (report["result"], report["environment"], report["failure"]) == ("succeeded", "trial", None)
    assert [(step["step"], step["hosts"]) for step in report["steps"]] == [("judge", ["localhost"]), ("api", ["one-1"])]
    assert report["figures"]["began"] == pytest.approx(report["figures"]["start"] + 900)
    assert report["record"] == {"entries": [], "evidence": {}, "is_whole": False}
    assert report["console"][0]["url"] == "https://10.0.0.1:8443/"
    [folder] = runs.reports
    assert f"report: {folder}/report.html" in done.stdout
    assert [oct(path.stat().st_mode & 0o777) for path in folder.iterdir()] == ["0o600", "0o600"]


def test_a_refusal_by_a_play_that_only_looks_leaves_a_report_and_asks_no_host(runs: Runs) -> None:
    done = runs.run(play("interfaces", {FAIL: {"msg": "openapi /v1/orders: is gone"}}, looks=True))

    assert done.returncode != 0
    failure = runs.report["failure"]
    assert (failure["step"], failure["message"]) == ("interfaces", "openapi /v1/orders: is gone")
    assert "support bundle" not in done.stdout


def test_a_step_that_was_rescued_and_ended_leaves_the_first_reason(runs: Runs) -> None:
    """As failed.yml does: what failed first is the cause, and what the rescue ends with only follows."""
    block = {
        "block": [{"name": "Start it", FAIL: {"msg": "it does not start"}}],
        "rescue": [{"name": "End the release", FAIL: {"msg": "one-1: api: it does not start\nLast lines of it"}}],
    }

    done = runs.run(play("api", block, hosts="one-1"))

    assert done.returncode != 0
    report = runs.report
    assert (report["result"], report["failure"]["task"]) == ("failed", "Start it")
    assert report["failure"]["gate"] == GATES["api"]
    assert [one["task"] for one in report["failure"]["followed_by"]] == ["End the release"]
    # Nothing of this inventory declares a secret, so nobody could mask any.
    assert report["support"]["file"] == ""
    assert "secret_db_owner_password is not in the inventory" in report["support"]["problem"]
    assert "support bundle: not written: " in done.stdout
    assert "FAILED  End the release" in done.stdout


def test_a_host_that_is_lost_cannot_be_rescued_and_leaves_a_report(runs: Runs) -> None:
    done = runs.run(play("look", {"ansible.builtin.ping": {}}, hosts="gone-1", looks=True))

    assert done.returncode != 0
    failure = runs.report["failure"]
    assert (failure["step"], failure["host"]) == ("look", "gone-1")
    assert "onnection refused" in failure["message"]


@pytest.mark.parametrize("words", [["--check"], ["--tags", "plan"]])
def test_what_is_no_release_leaves_no_report(runs: Runs, words: list[str]) -> None:
    done = runs.run(play("interfaces", {DEBUG: {"msg": "planned"}}, looks=True), words=words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert runs.reports == []


def test_a_release_that_is_ended_by_hand_leaves_a_report(runs: Runs) -> None:
    command = runs.command([play("api", {"ansible.builtin.wait_for": {"timeout": 60}}, hosts="one-1")])
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**runs.surroundings, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if STEPS["api"] in line:
                break
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)

    report = runs.report
    assert (report["result"], report["failure"]["step"]) == ("interrupted", "api")
