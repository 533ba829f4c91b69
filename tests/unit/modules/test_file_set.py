"""file_set: what it repairs, what it refuses, what it never shows."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from tests.support.ansible_modules import ModuleRun, load

OWNER = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


class FileSetRun:
    """Declares files as owned by whoever runs the test."""

    def __init__(self, module_run: ModuleRun) -> None:
        self.module_run = module_run

    def __call__(self, *files: dict[str, Any], check: bool = False) -> dict[str, Any]:
        entries = [item if item.get("state") in {"absent", "link"} else {**OWNER, **item} for item in files]
        return self.module_run({"files": entries}, check=check)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> FileSetRun:
    return FileSetRun(ModuleRun(load("file_set"), capsys, tmp_path_factory.mktemp("remote")))


def test_second_run_changes_nothing(run: FileSetRun, tmp_path: Path) -> None:
    declared = (
        {"path": f"{tmp_path}/etc", "state": "directory", "mode": "0750"},
        {"path": f"{tmp_path}/etc/a.conf", "content": "a = 1\n", "mode": "0640"},
        {"path": f"{tmp_path}/etc/link", "state": "link", "target": "a.conf"},
        {"path": f"{tmp_path}/etc/old", "state": "absent"},
    )

    first, second = run(*declared), run(*declared)

    assert first["changed_paths"] == [f"{tmp_path}/etc", f"{tmp_path}/etc/a.conf", f"{tmp_path}/etc/link"]
    assert (tmp_path / "etc/a.conf").read_text() == "a = 1\n"
    assert (tmp_path / "etc/a.conf").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "etc").stat().st_mode & 0o7777 == 0o750
    assert (second["changed"], second["changed_paths"]) == (False, [])


@pytest.mark.parametrize("drift", ["content", "mode", "link", "missing"])
def test_drift_is_reported_and_repaired(run: FileSetRun, tmp_path: Path, drift: str) -> None:
    path = tmp_path / "a.conf"
    declared = {"path": str(path), "content": "a = 1\n"}
    run(declared)
    if drift == "content":
        path.write_text("a = 2\n")
    elif drift == "mode":
        path.chmod(0o666)
    elif drift == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()

    checked, repaired = run(declared, check=True), run(declared)

    assert checked["changed_paths"] == repaired["changed_paths"] == [str(path)]
    assert not path.is_symlink()
    assert path.read_text() == "a = 1\n"
    assert path.stat().st_mode & 0o7777 == 0o644


def test_check_mode_changes_nothing_and_names_everything(run: FileSetRun, tmp_path: Path) -> None:
    result = run(
        {"path": f"{tmp_path}/new", "state": "directory"},
        {"path": f"{tmp_path}/new/a", "content": "a"},
        {"path": f"{tmp_path}/made-by-an-earlier-task/b", "content": "b", "validate": "not-installed-yet %s"},
        check=True,
    )

    assert len(result["changed_paths"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_one_bad_file_leaves_the_whole_set_untouched(run: FileSetRun, tmp_path: Path) -> None:
    result = run(
        {"path": f"{tmp_path}/good.json", "content": "{}"},
        {"path": f"{tmp_path}/bad.json", "content": "{", "validate": "python3 -m json.tool %s"},
    )

    assert result["failed"]
    assert "bad.json: python3 refused the new content" in result["msg"]
    assert not (tmp_path / "good.json").exists()


def test_validation_sees_the_files_own_name(run: FileSetRun, tmp_path: Path) -> None:
    own_name = "sh -c 'test ${0##*/} = unit.service' %s"

    result = run({"path": f"{tmp_path}/unit.service", "content": "", "validate": own_name})

    assert not result.get("failed")


def test_secret_content_is_shown_nowhere(run: FileSetRun, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old-token-value\n")
    declared = {"path": str(path), "content": "new-token-value\n", "mode": "0600", "secret": True}

    run(declared)
    changed = run.module_run.printed
    run({**declared, "content": "third-token-value\n", "validate": "grep -v token %s"})
    refused = run.module_run.printed

    assert path.read_text() == "new-token-value\n"
    assert "token-value" not in changed + refused


def test_nothing_of_the_invocation_is_logged_on_the_host(
    run: FileSetRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, message, **_: logged.append(message))

    run({"path": f"{tmp_path}/token", "content": "secret-of-two\nlines", "secret": True})

    assert logged == []


def test_content_diff_is_per_file(run: FileSetRun, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old\n")

    result = run({"path": f"{tmp_path}/a", "content": "new\n"}, {"path": f"{tmp_path}/b", "content": "b\n"})

    assert [part["after_header"] for part in result["diff"]] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert "old\n" in result["diff"][0]["before"]
    assert "new\n" in result["diff"][0]["after"]


def test_absent_removes_a_tree(run: FileSetRun, tmp_path: Path) -> None:
    (tmp_path / "tree/branch").mkdir(parents=True)

    result = run({"path": f"{tmp_path}/tree", "state": "absent"})

    assert result["changed"]
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"path": "/etc", "state": "absent"}, "below a top-level directory"),
        ({"path": "/tmp/../etc/passwd", "state": "absent"}, "normalised"),
        ({"path": "/tmp/x", "content": "", "mode": 420}, "quoted octal"),
        ({"path": "/tmp/x", "content": "", "mode": "420"}, "quoted octal"),
        ({"path": "/tmp/x", "contents": ""}, "unknown key contents, missing key content"),
        ({"path": "/tmp/x", "state": "link"}, "missing key target"),
        ({"path": "/tmp/x", "state": "touch"}, "none of file, directory, link, absent"),
        ({"path": "/tmp/x", "content": "", "validate": "true"}, "no %s"),
        ({"path": "/tmp/no-such-directory-here/x", "content": ""}, "directory does not exist"),
    ],
)
def test_refusal_names_path_and_reason(run: FileSetRun, entry: dict[str, Any], reason: str) -> None:
    result = run(entry)

    assert result["failed"]
    assert entry["path"] in result["msg"]
    assert reason in result["msg"]


def test_a_directory_is_never_replaced_by_a_file(run: FileSetRun, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    result = run({"path": f"{tmp_path}/a", "content": ""})

    assert "is a directory, declared as file" in result["msg"]


class Manager:
    """systemd, which knows one process of the unit."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run_command(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        assert command[-1] == "example.service"
        return 0, f"{self.pid}\n", ""


def test_a_unit_is_outdated_when_a_file_is_younger_than_its_process(tmp_path: Path) -> None:
    file_set = load("file_set")
    path = tmp_path / "example.conf"
    path.write_text("a = 1\n")
    entries = [path, tmp_path / "missing.pem"]
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            os.utime(path, (0, time.time() - 1))
            assert not file_set.is_outdated(Manager(process.pid), "example.service", entries)
            os.utime(path, (0, time.time() + 1))
            assert file_set.is_outdated(Manager(process.pid), "example.service", entries)
            assert not file_set.is_outdated(Manager(0), "example.service", entries)
        finally:
            process.kill()
