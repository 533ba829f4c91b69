"""Who acts on a host is who logged in there: nobody approves under another name what they asked for themselves."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pwd
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/app_service/files/usr/local/bin/cpq-oms-admin"
UNSET = str(2**32 - 1)
PERSON = next(entry for entry in pwd.getpwall() if entry.pw_uid)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hosts' `cpq-oms-admin`, for somebody whom neither the kernel nor sudo knows."""
    loader = importlib.machinery.SourceFileLoader("cpq_oms_admin", str(PROGRAM))
    specification = importlib.util.spec_from_loader("cpq_oms_admin", loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # nothing is left beside the program
    loader.exec_module(module)
    (tmp_path / "loginuid").write_text(UNSET)
    monkeypatch.setattr(module, "LOGIN_UID", tmp_path / "loginuid")
    monkeypatch.setattr(module, "RELEASE_ACCOUNT", tmp_path / "release-account")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "root")
    return module


def log_in(program: ModuleType, uid: int) -> None:
    """Let the kernel know who logged in."""
    program.LOGIN_UID.write_text(str(uid))


def test_who_used_sudo_acts_and_may_say_so(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ana")

    assert program.operator(["flags", "list"]) == "ana"
    assert program.operator(["flags", "list", "--operator", "ana"]) == "ana"
    with pytest.raises(SystemExit, match="you are ana here; --operator ben is somebody else"):
        program.operator(["flags", "approve", "1", "--operator", "ben"])


def test_the_login_counts_whatever_sudo_is_made_to_say(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(program, PERSON.pw_uid)
    monkeypatch.setenv("SUDO_USER", "ben")

    assert program.operator([]) == PERSON.pw_name
    with pytest.raises(SystemExit, match=f"you are {PERSON.pw_name} here"):
        program.operator(["--operator", "ben"])


@pytest.mark.parametrize("login", [UNSET, "0", "4242424", "nobody", str(10**30)])
def test_a_login_as_root_is_taken_at_its_word(program: ModuleType, login: str) -> None:
    program.LOGIN_UID.write_text(login)

    assert program.operator(["flags", "list", "--operator", "ana"]) == "ana"
    assert program.operator(["flags", "list"]) == "root"
    assert program.operator(["flags", "list", "--operator"]) == "root"


def test_a_release_says_who_started_it(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    program.RELEASE_ACCOUNT.write_text("release\n")
    monkeypatch.setenv("SUDO_USER", "release")

    assert program.operator(["--json", "--operator", "ana", "batch"]) == "ana"


def test_the_machine_may_not_know_logins_at_all(program: ModuleType) -> None:
    program.LOGIN_UID.unlink()

    assert program.operator([]) == "root"


def test_the_command_of_a_former_release_is_run_by_its_name_and_of_no_other(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "INSTALLED", tmp_path)
    for release in ("one", "two"):
        (tmp_path / "releases" / release).mkdir(parents=True)

    assert program.program(["release", "list"]) == [f"{tmp_path}/current/bin/cpq-oms-admin", "release", "list"]
    assert program.program(["--release", "one", "flags", "list"]) == [
        f"{tmp_path}/releases/one/bin/cpq-oms-admin", "flags", "list",
    ]  # fmt: skip
    for other in (["--release", "../one"], ["--release", "three", "flags"], ["--release"]):
        with pytest.raises(SystemExit, match="--release: expected one of one, two, found"):
            program.program(other)
