from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS
from tests.support.ansible_modules import LIBRARY, load

for name in ("host_identity", "proxy_socket", "unit_files"):
    sys.modules[f"ansible.module_utils.{name}"] = load(name, LIBRARY.parent / "module_utils")
FACTS = load("release_facts")
FILTERS = load("release", LIBRARY.parent / "filter_plugins")


def install(root: Path, unit: str, release_id: str, files: dict[str, str]) -> None:
    release = root / unit / "releases" / release_id
    for name, text in files.items():
        path = release / "lib/python3.13/site-packages/app/contracts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    release.mkdir(parents=True, exist_ok=True)
    (release / "release.json").write_text(json.dumps({"release_id": release_id}))
    (root / unit / "current").symlink_to(release)


def test_a_timer_that_systemd_has_not_loaded_is_asked_for_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cpq-oms-smoke.timer", "cpq-oms-smoke.service", "other.timer"):
        (tmp_path / name).touch()
    answer = "Id=cpq-oms-smoke.timer\nActiveState=inactive\nMainPID=\nDropInPaths=\n"
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, answer, "")

    monkeypatch.setattr(FACTS.subprocess, "run", run)
    monkeypatch.setattr(FACTS, "timers", lambda: load("unit_files", LIBRARY.parent / "module_utils").timers(tmp_path))

    assert FACTS.services()["cpq-oms-smoke.timer"]["state"] == "inactive"
    assert [word for word in asked[0] if word.endswith(".timer")] == ["cpq-oms-smoke.timer"]


CONTRACTS = {"topics/a.yml": "name: a", "events/a.v1.schema.json": "{}", "events/notes.txt": "", "units.yml": "{}"}


def test_contracts_are_those_of_each_installed_release_whichever_unit_has_them(tmp_path: Path) -> None:
    install(tmp_path, "admin", "release-1", CONTRACTS)
    install(tmp_path, "consumer", "release-2", CONTRACTS | {"topics/b.yml": "name: b"})
    install(tmp_path, "simulator", "release-3", {})
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "current").symlink_to(tmp_path / "nowhere")

    found = FACTS.contracts(tmp_path)

    assert found == {
        "release-1": {"topics": {"a.yml": "name: a"}, "events": {"a.v1.schema.json": "{}"}},
        "release-2": {"topics": {"a.yml": "name: a", "b.yml": "name: b"}, "events": {"a.v1.schema.json": "{}"}},
    }


def test_what_is_looked_for_is_what_is_compared_and_planned_by() -> None:
    assert dict(FACTS.INTERFACES) == {**PARTS, **DECLARATIONS}


def test_interfaces_that_only_some_units_carry_are_brought_together(tmp_path: Path) -> None:
    install(tmp_path, "admin", "release-1", CONTRACTS)
    install(tmp_path, "api", "release-1", CONTRACTS | {"openapi.yml": "paths: {}"})

    assert FACTS.contracts(tmp_path)["release-1"]["openapi"] == {"openapi.yml": "paths: {}"}


def test_contracts_of_all_hosts_are_brought_together() -> None:
    hostvars: dict[str, Any] = {
        "api-1": {"facts": {"contracts": {"release-1": {"topics": {"a.yml": ""}}}}},
        "api-2": {"facts": {"contracts": {"release-2": {"topics": {"a.yml": ""}}}}},
        "admin-1": {"facts": {"contracts": {"release-1": {"settings": {"settings.json": "{}"}}}}},
        "db-1": {},
    }

    found = FILTERS.release_contracts({"all": list(hostvars)}, hostvars, "facts")

    assert found == {
        "release-1": {"topics": {"a.yml": ""}, "settings": {"settings.json": "{}"}},
        "release-2": {"topics": {"a.yml": ""}},
    }


def test_what_an_inventory_gives_is_what_it_says_of_a_unit_and_of_its_instances() -> None:
    services = {
        "worker": {
            "environment": {"LOG_LEVEL": "INFO"},
            "instances": {"starter": {"environment": {"WORKER_GROUP": "starter"}}},
        }
    }

    given = FILTERS.given_settings(services, {"worker": {"credentials": ["db-password"]}})

    assert given == {"worker": ["LOG_LEVEL", "WORKER_GROUP", "db-password"]}
    assert FILTERS.release_given_settings({"all": ["a", "b"]}, {"a": {}, "b": {"release_given": given}}) == given


def test_topics_in_use_are_those_of_installed_units_and_not_of_the_commands_that_came_first() -> None:
    before = {
        "installed": {"admin": "new", "relay": "old"},
        "contracts": {
            "old": {"topics": {"orders.v1.yml": "", "orders.v1.dlq.yml": ""}},
            "new": {"topics": {"orders.v1.yml": "", "quotes.v1.yml": ""}},
        },
    }
    hostvars = {"a-1": {"before": before}, "db-1": {}}

    assert FILTERS.release_topics({"all": ["a-1", "db-1"]}, hostvars, "before") == ["orders.v1", "orders.v1.dlq"]
