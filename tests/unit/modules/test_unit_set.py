"""unit_set: what it does to units, in which order, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import ModuleRun, load

SYSTEMCTL = """#!/usr/bin/env python3
import json, os, sys
units = json.load(open(os.environ["UNITS"]))
verb, *rest = sys.argv[1:]
if verb == "show":
    names = ("LoadState", "ActiveState", "UnitFileState")
    rest = [name for name in rest if not name.startswith("-")]
    print("\\n\\n".join("\\n".join(f"{key}={value}" for key, value in zip(names, units[unit])) for unit in rest))
else:
    with open(os.environ["DONE"], "a") as done:
        done.write(" ".join(sys.argv[1:]) + "\\n")
    if "broken.service" in rest:
        sys.exit("Job for broken.service failed")
"""


class Host:
    """A host with a systemctl of the test's own: its units are what the test says, and what is done is written down."""

    def __init__(self, folder: Path, run: ModuleRun) -> None:
        self._folder = folder
        self._run = run

    def __call__(
        self, units: dict[str, tuple[str, str, str]], *wanted: dict[str, Any], **options: Any
    ) -> dict[str, Any]:
        (self._folder / "units.json").write_text(json.dumps(units))
        check = bool(options.pop("check", False))
        return self._run({"units": list(wanted), **options}, check=check)

    @property
    def done(self) -> list[str]:
        """What systemctl was called for, other than to look."""
        path = self._folder / "done"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def host(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    command = tmp_path / "bin/systemctl"
    command.parent.mkdir()
    command.write_text(SYSTEMCTL)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UNITS", str(tmp_path / "units.json"))
    monkeypatch.setenv("DONE", str(tmp_path / "done"))
    return Host(tmp_path, ModuleRun(load("unit_set"), capsys, tmp_path / "remote"))


RUNNING, IDLE = ("loaded", "active", "enabled"), ("loaded", "inactive", "disabled")


def test_what_is_as_declared_is_left_alone(host: Host) -> None:
    result = host(
        {"a.service": RUNNING, "b.timer": IDLE, "c.service": ("loaded", "active", "static")},
        {"name": "a.service", "state": "started", "enabled": True},
        {"name": "b.timer", "state": "stopped", "enabled": False},
        {"name": "c.service", "state": "started", "enabled": True},
    )

    assert (result["changed"], result["done"], host.done) == (False, [], [])


def test_units_are_enabled_first_and_then_brought_there_in_order_neighbours_together(host: Host) -> None:
    wanted = (
        {"name": "a.service", "state": "stopped", "enabled": False},
        {"name": "b.socket", "state": "restarted", "enabled": True},
        {"name": "c.service", "state": "started", "enabled": True},
        {"name": "d.service", "state": "started"},
    )
    units = {"a.service": RUNNING, "b.socket": RUNNING, "c.service": IDLE, "d.service": IDLE}

    checked = host(units, *wanted, daemon_reload=True, check=True)
    assert host.done == []
    result = host(units, *wanted, daemon_reload=True)

    assert checked["done"] == result["done"]
    assert host.done == [
        "daemon-reload",
        "disable a.service",
        "enable c.service",
        "stop a.service",
        "restart b.socket",
        "start c.service d.service",
    ]


def test_a_unit_that_fails_is_told_with_what_systemd_says(host: Host) -> None:
    result = host({"broken.service": IDLE}, {"name": "broken.service", "state": "started"})

    assert result["failed"]
    assert result["msg"] == "systemctl start broken.service: Job for broken.service failed"


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("masked", "a.service is masked; find out why, then systemctl unmask a.service"),
        ("not-found", "the host has no unit a.service"),
    ],
)
def test_a_unit_that_cannot_start_is_named_before_anything_is_done(host: Host, load: str, message: str) -> None:
    units = {"a.service": (load, "inactive", ""), "b.service": IDLE}

    result = host(units, {"name": "b.service", "state": "started"}, {"name": "a.service", "state": "started"})

    assert (result["failed"], result["msg"], host.done) == (True, message, [])


def test_a_unit_that_an_earlier_task_would_bring_is_no_fault_in_check_mode(host: Host) -> None:
    wanted = {"name": "a.service", "state": "started", "enabled": True}

    assert host({"a.service": ("not-found", "inactive", "")}, wanted, check=True)["changed"]


def test_a_unit_is_declared_once(host: Host) -> None:
    wanted = {"name": "a.service", "state": "started"}

    assert host({"a.service": IDLE}, wanted, wanted)["msg"] == "declared twice: a.service"
