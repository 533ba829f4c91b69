"""`bootstrap.py test` brings what the stages need and then is the stages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import bootstrap


@pytest.mark.parametrize("make", [None, "/usr/bin/make"])
def test_the_stages_start_where_everything_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: str | None
) -> None:
    done: list[tuple[object, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _name: make)
    monkeypatch.setattr(bootstrap, "tools", lambda *, quiet: done.append(("tools", quiet)))

    def become(path: str, words: list[str]) -> None:
        done.append((path, *words[1:], Path.cwd()))
        raise SystemExit

    monkeypatch.setattr(os, "execv", become)

    with pytest.raises(SystemExit):
        bootstrap.main(["test", "lint", "unit"])

    # Packages are asked for where make, one of them, is missing; otherwise only the virtual environment is looked at.
    python = str(bootstrap.VENV / "bin/python")
    assert done == [("tools", make is not None), (python, "-m", "tests.stages", "lint", "unit", bootstrap.ROOT)]
