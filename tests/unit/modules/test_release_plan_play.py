"""The play of release.yml that plans, as it is, on hosts that are only described: no ssh, nothing installed.

The admin host has no commands, so the environment says nothing beside what its hosts have; that is what a first release
meets, too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contracts.loader import DIRECTORY, load_release_steps, load_units
from tests.support.laid_open import NEW, OLD, add_event_field, laid_open, make_bundle

ROOT = DIRECTORY.parents[1]
VARIABLES = ROOT / "playbooks/release/vars.yml"
STEP = next(step for step in load_release_steps().steps if step.step == "interfaces")
UNITS = sorted(set(load_units()) - {"simulator"})


class Release:
    """One inventory whose hosts have a release, and what of release.yml is run on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.installed = make_bundle(folder / "installed", OLD)
        self.bundle = make_bundle(folder / "bundle", NEW)

    def run(self, bundle: Path, *words: str) -> tuple[int, str]:
        """Run the play, then one that says where consumers come, then one of those that a plan leaves out."""
        given = json.loads((bundle / "manifest.json").read_text())["release_id"]
        facts = {"installed": dict.fromkeys(UNITS, OLD), "contracts": {OLD: laid_open(self.installed)}}
        hosts = {"one-1": {"release_before": facts, "release_given": {}, "app_release_comparison": {"due": [1]}}}
        inventory = {
            "all": {
                "vars": {
                    "cpq_canary_cohort": "",
                    "cpq_canary_hosts": [],
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                    "cpq_state_dir": str(self._folder / "state"),
                    "release_window": "Sunday 06:00",
                },
                "hosts": hosts,
                "children": {unit: {"hosts": {"one-1": {}}} for unit in UNITS},
            }
        }
        (self._folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        plays = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
        [judging] = [play for play in plays if play["name"] == STEP.play]
        asking = next(
            task for task in judging["tasks"] if task["name"] == "Ask the environment what the plan stands on"
        )
        # The host is nowhere.
        assert asking.pop("vars") == {"ansible_connection": "ssh"}
        found = {"bundle": str(bundle), "release_id": given, "units": UNITS}
        before = self._play(
            "Describe", "localhost", {"ansible.builtin.set_fact": {"__release_preflight": found}}, ["plan"]
        )
        said = {"ansible.builtin.debug": {"msg": "readers first: {{ release_readers_first }}"}}
        changed = {"ansible.builtin.debug": {"msg": "the platform is changed"}}
        book = [
            before,
            {**judging, "vars_files": [str(VARIABLES)]},
            self._play("Say", "consumer", said, ["plan"]),
            self._play("Change the platform", "consumer", changed, []),
        ]
        path = self._folder / "play.yml"
        path.write_text(yaml.safe_dump(book, sort_keys=False))
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                "-i",
                str(self._folder / "hosts.yml"),
                str(path),
                *words,
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    @staticmethod
    def _play(name: str, hosts: str, task: dict[str, Any], tags: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "hosts": hosts,
            "gather_facts": False,
            "vars_files": [str(VARIABLES)],
            "tags": tags,
            "tasks": [{"name": name, **task}],
        }


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


def test_a_plan_is_shown_and_nothing_else_is_mentioned(release: Release) -> None:
    add_event_field(release.bundle)

    status, output = release.run(release.bundle, "--tags", "plan")

    assert status == 0, output
    lines = [line.strip() for line in output.splitlines()]
    assert f"{NEW}, with {OLD} installed" in lines
    step = "Activate the consumers before whoever writes events, where events have something new [one-1]"
    assert [line for line in lines if line.endswith(f". {step}")]
    assert "Window: Sunday 06:00" in lines
    assert "readers first: True" in lines
    assert not re.search(r"[Cc]hange the platform", output)
    assert set(re.findall(r"changed=([0-9]+)", output)) == {"0"}


def test_a_release_that_breaks_the_order_stops_after_the_comparison_and_before_any_change(release: Release) -> None:
    (release.bundle / "contracts/release_path.yml").write_text("generation: 3\n")

    status, output = release.run(release.bundle)

    assert status != 0
    assert "reason   release-path: " in output
    assert f"{OLD} is of generation 1, the bundle of generation 3" in output
    assert output.index("Compare OpenAPI") < output.index("FAILED  Refuse what breaks the order")
    assert "the platform is changed" not in output


def test_a_release_with_nothing_new_makes_no_plan(release: Release) -> None:
    status, output = release.run(release.installed)

    assert status == 0, output
    assert "Plan the release" not in output
    assert "readers first: False" in output
    assert "the platform is changed" in output
