"""installed_packages: when dpkg counts as cut short, and who is waited for."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.support.ansible_modules import load

installed_packages = load("installed_packages")


@pytest.mark.parametrize(
    ("state", "half_done"),
    [
        ("installed", False),
        ("config-files", False),
        ("not-installed", False),
        ("half-installed", True),
        ("unpacked", True),
        ("half-configured", True),
        ("triggers-pending", True),
    ],
)
def test_a_package_between_two_states_is_half_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, half_done: bool
) -> None:
    monkeypatch.setattr(installed_packages, "UPDATES", tmp_path)

    assert installed_packages.is_half_done(f"installed base-files 13\n{state} curl 8\n") is half_done


def test_a_package_that_was_cut_short_while_it_was_unpacked_is_torn() -> None:
    assert installed_packages.torn_packages("ok base-files\nreinstreq curl\nok libc6:amd64\n") == ["curl"]


def test_a_journal_that_dpkg_did_not_close_is_half_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "0001").touch()
    monkeypatch.setattr(installed_packages, "UPDATES", tmp_path)

    assert installed_packages.is_half_done("installed base-files 13\n")


def test_whoever_installs_packages_is_waited_for_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    monkeypatch.setattr(installed_packages, "LOCKS", (str(lock),))
    monkeypatch.setattr(installed_packages, "PAUSE_SECONDS", 0.01)
    held: list[int] = []

    def always_held(*_: object) -> None:
        raise BlockingIOError

    def refuse(*_: object) -> None:
        held.append(1)
        if len(held) < 3:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert installed_packages.wait_until_idle(60) == ""
    assert len(held) == 3

    monkeypatch.setattr(fcntl, "lockf", always_held)
    assert installed_packages.wait_until_idle(0) == str(lock)
