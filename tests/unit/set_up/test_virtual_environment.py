"""A virtual environment that was finished and damaged since is seen for what it is, whatever its stamp says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import bootstrap

SITE = "lib/python3.11/site-packages"


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished environment of a lock with one package."""
    venv = tmp_path / ".venv"
    lock = tmp_path / "control.txt"
    lock.write_text("typing-extensions==1.0 \\\n    --hash=sha256:0\n")
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "LOCK", lock)
    record = venv / SITE / "typing_extensions-1.0.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    (venv / SITE / "typing_extensions.py").touch()
    lines = ("typing_extensions.py,sha256=0,0", "__pycache__/typing_extensions.pyc,,", f"{record.parent.name}/RECORD,,")
    record.write_text("\n".join(lines) + "\n")
    python = venv / "bin/python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (venv / "cpq-oms.stamp").write_text(bootstrap.venv_stamp())
    return venv


@pytest.mark.usefixtures("venv")
def test_a_whole_one_is_used() -> None:
    assert bootstrap.venv_is_current()


def _lose_python(venv: Path) -> None:
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nowhere/python3")


def _break_python(venv: Path) -> None:
    (venv / "bin/python").write_text("#!/bin/sh\nexit 1\n")


def _lose_a_file(venv: Path) -> None:
    (venv / SITE / "typing_extensions.py").unlink()


def _lose_a_record(venv: Path) -> None:
    (venv / SITE / "typing_extensions-1.0.dist-info/RECORD").unlink()


@pytest.mark.parametrize("damage", [_lose_python, _break_python, _lose_a_file, _lose_a_record])
def test_a_damaged_one_is_made_anew(venv: Path, damage: Callable[[Path], None]) -> None:
    damage(venv)

    assert not bootstrap.venv_is_whole()
    assert not bootstrap.venv_is_current()


def test_a_package_that_is_gone_altogether_is_installed_again(venv: Path) -> None:
    (venv / SITE / "typing_extensions.py").unlink()
    (venv / SITE / "typing_extensions-1.0.dist-info/RECORD").unlink()
    (venv / SITE / "typing_extensions-1.0.dist-info").rmdir()

    assert bootstrap.venv_is_whole()
    assert not bootstrap.venv_is_current()
