"""After `make down` nothing of the test hosts may be left on the machine; what is left is a failed check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import stages
from tests.support.scratch_environment import ScratchEnvironment


@pytest.mark.parametrize("is_left", [False, True])
def test_what_is_left_of_the_test_hosts_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_left: bool
) -> None:
    monkeypatch.setattr(stages, "ENVIRONMENT", "notthere")
    monkeypatch.setattr(stages, "commands", lambda _checks: stages.Result())
    monkeypatch.setattr(ScratchEnvironment, "state_directory", tmp_path)
    if is_left:
        (tmp_path / "ssh_key").touch()

    cleaned = stages.clean_up(["release"])

    assert cleaned.failures == (["make down ENV=notthere leaves no trace"] if is_left else [])
    assert cleaned.passed == (0 if is_left else 1)
    assert ("ssh_key" in capsys.readouterr().out) is is_left


def test_stages_without_hosts_have_nothing_to_leave() -> None:
    assert stages.clean_up(["lint"]) == stages.Result()
