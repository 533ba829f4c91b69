"""canary.yml as it is, on hosts that are only described: what it asks for, what it refuses, and how it ends with each verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contracts.loader import DIRECTORY

ROOT = DIRECTORY.parents[1]
# Stands for the command on the admin host: it keeps what it was asked, and answers what the test laid down.
ADMIN = """
import json, os
from pathlib import Path
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"commands"})
    def run(self, tmp=None, task_vars=None):
        folder = Path(os.environ["CANARY_FOLDER"])
        (folder / "asked.json").write_text(json.dumps(self._task.args["commands"]))
        return json.loads((folder / "answer.json").read_text())
"""
ANSWERS = {
    "promote": {"changed": False, "results": [{"report": "promote: percent:5\n", "exit_code": 0}]},
    "inconclusive": {
        "changed": False,
        "failed": True,
        "msg": "inconclusive: price: no prices were given",
        "results": [{"report": "inconclusive: percent:5\n", "exit_code": 4}],
    },
    "no answer": {"changed": False, "failed": True, "msg": "cpq-oms-admin gave no answer: gone", "results": []},
}


class Canary:
    """An inventory of three servers, and the play on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, answer: str, cohort: str = "percent:5", **variables: str) -> tuple[int, str]:
        """Run the plays after the look at hosts, which are nowhere, with an answer for the command."""
        found = {"canary_found": {"installed": {"api": "one"}}}
        hosts = {
            name: {"ansible_host": f"192.0.2.{number}", **found} for number, name in enumerate(("api-1", "api-2"), 1)
        }
        inventory = {
            "all": {
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                    "cpq_canary_cohort": cohort,
                    "cpq_canary_hosts": ["api-2"],
                    "cpq_units": {"api": {"metrics_port": 9100}, "relay": {"metrics_port": 9120}},
                },
                "children": {"api": {"hosts": hosts}, "admin": {"hosts": {"admin-1": {}}}},
            }
        }
        _, looking, judging = yaml.safe_load((ROOT / "playbooks/canary.yml").read_text())
        looking["tasks"] = [task for task in looking["tasks"] if "release_facts" not in task]
        looking["vars_files"] = [str(ROOT / "playbooks/release/vars.yml")]
        plugins = self._folder / "action_plugins"
        plugins.mkdir(exist_ok=True)
        (plugins / "cpq_admin.py").write_text(ADMIN)
        (self._folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self._folder / "play.yml").write_text(yaml.safe_dump([looking, judging], sort_keys=False))
        (self._folder / "answer.json").write_text(json.dumps(ANSWERS[answer]))
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                *("-i", str(self._folder / "hosts.yml"), str(self._folder / "play.yml"), "-e", json.dumps(variables)),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_ACTION_PLUGINS": str(plugins),
                "CANARY_FOLDER": str(self._folder),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The commands that were asked for."""
        found: list[dict[str, Any]] = json.loads((self._folder / "asked.json").read_text())
        return found


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path)


def test_the_command_is_asked_for_what_the_inventory_declares(canary: Canary) -> None:
    status, output = canary.run("promote", canary_since="2026-11-30T08:00:00")

    assert status == 0, output
    assert "promote: percent:5" in output
    words = ["release", "canary", "judge", "--cohort", "percent:5", "--since", "2026-11-30T08:00:00"]
    [asked] = canary.asked
    assert asked["read"] == words
    assert asked["input"]["canary_hosts"] == ["api-2"]
    assert asked["input"]["observation_seconds"] == 300
    assert [(target["host"], target["url"], target["installed"]) for target in asked["input"]["targets"]] == [
        ("api-1", "http://192.0.2.1:9100/metrics", True),
        ("api-2", "http://192.0.2.2:9100/metrics", True),
    ]


def test_files_of_prices_are_handed_on(canary: Canary) -> None:
    given = {"canary_former_prices": "/run/former.json", "canary_prices": "/run/latter.json"}
    status, output = canary.run("promote", canary_since="2026-11-30", canary_observation_seconds="5", **given)

    assert status == 0, output
    assert canary.asked[0]["read"][-4:] == ["--former-prices", "/run/former.json", "--prices", "/run/latter.json"]
    assert canary.asked[0]["input"]["observation_seconds"] == 5


@pytest.mark.parametrize(("answer", "said"), [("inconclusive", "no prices were given"), ("no answer", "gone")])
def test_what_is_no_promotion_fails_with_its_reason(canary: Canary, answer: str, said: str) -> None:
    status, output = canary.run(answer, canary_since="2026-11-30")

    assert status != 0
    assert said in output
    assert ("inconclusive: percent:5" in output) == (answer == "inconclusive")


@pytest.mark.parametrize(
    ("cohort", "variables", "said"),
    [
        ("", {"canary_since": "2026-11-30"}, "(found none)"),
        ("percent:5", {}, "canary_since (found none)"),
        ("percent:5", {"canary_since": "yesterday"}, "canary_since (found yesterday)"),
        (
            "percent:5",
            {"canary_since": "2026-11-30", "canary_prices": "/run/x"},
            "both canary_former_prices and canary_prices",
        ),
    ],
)
def test_what_is_missing_is_named_before_anything_is_asked(
    canary: Canary, tmp_path: Path, cohort: str, variables: dict[str, str], said: str
) -> None:
    status, output = canary.run("promote", cohort, **variables)

    assert status != 0
    assert said in " ".join(output.split())
    assert not (tmp_path / "asked.json").exists()
