"""app_service: how declarations become files and services, and when a process is not what is declared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.ansible_modules import LIBRARY, load

sys.modules["ansible.module_utils.secret_record"] = load("secret_record", LIBRARY.parent / "module_utils")
app_service = load("app_service", Path(__file__).parents[3] / "roles/app_service/library")

RELEASE = "cpq-oms-2031.01.05-001"


def arguments(**units: Any) -> dict[str, Any]:
    files = {
        "cpq-oms.target": "",
        "cpq-oms-api.service": "",
        "cpq-oms-worker@.service": "",
        "cpq-oms-admin@.service": "",
    }
    return {"root": "/opt/cpq-oms", "release_id": RELEASE, "unit_files": files, "files": {}, "units": units}


def test_values_are_quoted_as_systemd_reads_them() -> None:
    text = app_service.environment_text({"B": 'say "no" \\ $HOME', "A": ""})

    assert text == 'A=""\nB="say \\"no\\" \\\\ $HOME"\n'


def test_instances_share_settings_and_override_them() -> None:
    worker = {
        "environment": {"LOG_LEVEL": "INFO", "WORKER_GROUP": "none"},
        "credentials": {"db-password": "secret"},
        "instances": {"starter": {"environment": {"WORKER_GROUP": "starter"}, "health_url": "http://h/metrics"}},
    }

    declared = app_service.read_declaration(arguments(worker=worker))

    (service,) = declared.services
    assert (service.name, service.unit_file) == ("cpq-oms-worker@starter.service", "cpq-oms-worker@.service")
    assert service.environment == {"LOG_LEVEL": "INFO", "WORKER_GROUP": "starter"}
    written = {str(file.path): (file.mode, file.secret) for file in declared.files}
    assert written["/etc/cpq-oms/worker-starter.env"] == (0o644, False)
    assert written["/etc/cpq-oms/credentials/worker/db-password"] == (0o600, True)


def test_operators_commands_have_settings_and_no_process() -> None:
    declared = app_service.read_declaration(arguments(admin={"environment": {"LOG_LEVEL": "INFO"}}))

    assert declared.services == []
    assert "/etc/cpq-oms/admin.env" in {str(file.path) for file in declared.files}


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        ({"environments": {}}, "unknown key environments"),
        ({"state": "running"}, "state 'running'"),
        ({"instances": {"a": {"port": 1}}}, "unknown key port"),
        ({"instances": {"a": {}}}, "cpq-oms-api@.service is not among the unit files"),
        ({"environment": {"lower": "1"}}, "environment lower"),
        ({"environment": {"TWO_LINES": "1\n2"}}, "environment TWO_LINES"),
    ],
)
def test_wrong_declaration_is_refused_by_name(unit: dict[str, Any], problem: str) -> None:
    with pytest.raises(app_service.RefusedError, match=problem) as refusal:
        app_service.read_declaration(arguments(api=unit))

    assert str(refusal.value).startswith("api")


def test_secret_is_not_in_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old-value")
    file = app_service.ManagedFile(path, "new-value", 0o600, secret=True)

    difference = file.difference()

    assert difference
    assert "value" not in difference["before"] + difference["after"]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release with a program that only waits."""
    path = tmp_path / "releases" / RELEASE
    (path / "bin").mkdir(parents=True)
    (path / "release.json").write_text("{}")
    (path / "bin/python").symlink_to(sys.executable)
    old = time.time() - 60
    os.utime(path / "release.json", (old, old))
    return path


@pytest.fixture
def process(release: Path) -> Iterator[Any]:
    started = subprocess.Popen(
        [str(release / "bin/python"), "-c", "input()"], env={"LOG_LEVEL": "INFO"}, stdin=subprocess.PIPE
    )
    # Between fork and exec it still has this process's name.
    while str(release) not in Path(f"/proc/{started.pid}/cmdline").read_text():
        time.sleep(0.01)
    yield app_service.Process(started.pid)
    started.kill()
    started.communicate()


def service(**environment: str) -> Any:
    return app_service.Service(
        name="cpq-oms-test.service",
        unit="test",
        unit_file="cpq-oms-test.service",
        environment=environment,
        environment_file=Path("/nowhere"),
        health_url="",
        started=True,
    )


def test_process_that_runs_what_is_declared_is_left_alone(process: Any, release: Path) -> None:
    assert list(process.outdated(service(LOG_LEVEL="INFO"), release, {})) == []


def test_every_difference_of_a_process_is_a_reason(process: Any, release: Path) -> None:
    other = release.with_name("cpq-oms-2031.01.05-002")
    declared = service(LOG_LEVEL="DEBUG", API_WORKERS="2")

    reasons = list(process.outdated(declared, other, {"db-password": "x"}))

    assert reasons == ["release", "environment API_WORKERS", "environment LOG_LEVEL", "credential db-password"]


def test_process_of_a_release_that_was_repaired_since_is_outdated(process: Any, release: Path) -> None:
    later = time.time() + 60
    os.utime(release / "release.json", (later, later))

    assert list(process.outdated(service(), release, {})) == ["release was installed anew"]


class Manager:
    """systemd with everything running."""

    def states(self, names: list[str]) -> dict[str, dict[str, str]]:
        return {name: {"ActiveState": "active", "MainPID": "1"} for name in names}


def test_a_change_of_credentials_touches_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = {
        "environment": {"LOG_LEVEL": "DEBUG"},
        "credentials": {"db-password": "new", "crm-token": "kept"},
        "instances": {"starter": {}, "reactions": {}},
    }
    monkeypatch.setattr(app_service, "loaded", lambda service, _, value: value == "kept" or "reactions" in service.name)
    given = arguments(worker=worker) | {"root": str(tmp_path), "release_id": None}
    change = app_service.CredentialChange(SimpleNamespace(params=given, check_mode=True))
    change._host = Manager()

    plan = change._plan()

    assert {file.path.name for file in plan.files} == {"db-password", "crm-token"}
    assert plan.actions == {"cpq-oms-worker@starter.service": "restart: credential db-password"}
    assert (plan.links, plan.strays, plan.enable, plan.disable, plan.reload) == ([], [], [], [], False)
    with pytest.raises(app_service.RefusedError, match="no release is installed for worker"):
        change._require_installed()


TIMER = "[Timer]\nOnActiveSec=5min\n\n[Install]\nWantedBy=cpq-oms.target\n"


class Fresh(Manager):
    """systemd where nothing was ever started."""

    def states(self, names: list[str]) -> dict[str, dict[str, str]]:
        state = {"ActiveState": "inactive", "MainPID": "0", "UnitFileState": "disabled", "NeedDaemonReload": "no"}
        return dict.fromkeys(names, state)

    def undeclared_instances(self, unit: str, names: list[str]) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("timer", "starts"),
    [(TIMER, True), (TIMER.split("[Install]", maxsplit=1)[0], False)],
    ids=["by itself", "by whoever needs it"],
)
def test_a_host_of_the_commands_alone_starts_the_platform_for_their_timers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, timer: str, starts: bool
) -> None:
    monkeypatch.setattr(app_service, "UNIT_FILES", tmp_path)
    given = arguments(admin={"environment": {"LOG_LEVEL": "INFO"}}) | {"root": str(tmp_path)}
    given["unit_files"]["cpq-oms-drift.timer"] = timer
    run = app_service.Convergence(SimpleNamespace(params=given, check_mode=True))
    run._host = Fresh()

    plan = run._plan()

    assert plan.start_target is starts
    assert plan.enable == (["cpq-oms.target", "cpq-oms-drift.timer"] if starts else [])
