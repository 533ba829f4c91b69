"""`bootstrap.py test` brings what the stages need and then is the stages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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


def test_readiness_is_asked_of_the_named_bundle_as_production_plays_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: object) -> None:
            started.append(command)

        def wait(self) -> int:
            return 2

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(bootstrap, "is_up", lambda _environment: False)

    assert bootstrap.main(["readiness", "--env", "prod", "--bundle", str(tmp_path)]) == 2

    [command] = started
    assert command[1:] == [
        *("-i", "inventories/prod", "playbooks/readiness.yml"),
        *("-e", json.dumps({"release_bundle": str(tmp_path)})),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "dist/ holds no bundle; build one (make bundle), or name one (BUNDLE=its folder)"),
        (("--bundle", "/nowhere"), "BUNDLE '/nowhere' is no folder; expected that of a bundle"),
    ],
)
def test_readiness_without_a_bundle_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    known = bootstrap.find_environment("prod")
    monkeypatch.setattr(bootstrap, "find_environment", lambda _name: known)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)

    assert bootstrap.main(["readiness", "--env", "prod", *words]) == 1
    assert said in capsys.readouterr().err
