"""Every way out of a release leads to its report: it begins before anything can fail, and no rescue goes round it."""

from __future__ import annotations

import configparser
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RELEASE: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
ROLLBACK: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/rollback.yml").read_text())
PARTS = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "playbooks/release").glob("*.yml")}
INCLUDE = "ansible.builtin.include_tasks"


def rescues(tasks: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the tasks of every rescue, those of blocks in blocks too."""
    for task in tasks if isinstance(tasks, list) else []:
        if "rescue" in task:
            yield task["rescue"]
        for part in ("block", "rescue", "always"):
            yield from rescues(task.get(part))


def ways_round(release: list[dict[str, Any]], parts: dict[str, Any]) -> list[str]:
    """Name the ways out of a release that its report does not hear of, or that leave out what it asks for."""
    found = []
    if "release_report" not in release[0]["tasks"][0]:
        found.append("something can fail before the report begins")
    places = {play["name"]: play["tasks"] for play in release} | parts
    found += [
        f"{name}: a rescue does not end the release by failed.yml"
        for name, tasks in places.items()
        for rescue in rescues(tasks)
        if not str(rescue[-1].get(INCLUDE, "")).endswith("failed.yml")
    ]
    if not [task for task in parts["failed.yml"] if task.get(INCLUDE) == "report.yml"]:
        found.append("failed.yml does not ask for what the report shows")
    if release[-1]["tasks"][-1].get(INCLUDE) != "release/report.yml":
        found.append("a release that went well does not ask for what the report shows")
    return found


def test_no_way_out_of_a_release_goes_round_its_report() -> None:
    assert ways_round(RELEASE, PARTS) == []
    assert ways_round([ROLLBACK[0], *RELEASE[1:]], PARTS) == []
    # What hears of every end, those that nothing can rescue too: test_release_report.py of the unit tests ends releases in each way.
    settings = configparser.ConfigParser()
    settings.read(ROOT / "ansible.cfg")
    assert settings["defaults"]["callbacks_enabled"] == "release_report"


def test_a_rescue_that_goes_round_is_seen() -> None:
    planted = copy.deepcopy(RELEASE)
    [callback] = [play for play in planted if play["hosts"] == "callback"]
    callback["tasks"][0]["rescue"].pop()
    assert ways_round(planted, PARTS) == [f"{callback['name']}: a rescue does not end the release by failed.yml"]

    planted = copy.deepcopy(RELEASE)
    planted[0]["tasks"].pop(0)
    planted[-1]["tasks"].pop()
    assert len(ways_round(planted, PARTS)) == 2

    assert ways_round(RELEASE, {**PARTS, "failed.yml": PARTS["failed.yml"][-1:]}) == [
        "failed.yml does not ask for what the report shows"
    ]


def test_what_the_report_asks_for_can_fail_no_release() -> None:
    """Where every error is fatal, a host that is not there would be one, whatever else the task says (seen by the unit test)."""
    for task in PARTS["report.yml"]:
        assert (task["failed_when"], task["ignore_errors"], task["ignore_unreachable"]) == (False, True, True), task[
            "name"
        ]
