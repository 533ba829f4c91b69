"""A cut of the release counts only when it hit a running release, and Ctrl-C only when the release stopped by itself and said so."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests import stages
from tests.stages import Cut, cut_release

STAYS = "sleep 60"
STOPS = f"trap 'echo \"{stages.RESUMES}\"; exit 130' INT; echo '== two'; while :; do sleep 0.05; done"


def cut(script: str, number: signal.Signals, seconds: float = 0.1) -> bool:
    return cut_release(Cut("two", seconds, number), ["sh", "-c", f"echo '== one'; {script}"])


def test_a_kill_of_a_running_release_lands_on_its_workers_too(tmp_path: Path) -> None:
    """Ansible gives each worker a session of its own, so that a signal to the group would miss it."""
    worker = tmp_path / "worker"
    starts = f"setsid sh -c 'echo $$ > {worker}; {STAYS}' & while ! [ -s {worker} ]; do sleep 0.01; done"

    assert cut(f"{starts}; echo '== two'; {STAYS}", signal.SIGKILL)
    status, deadline = Path("/proc", worker.read_text().strip(), "stat"), time.monotonic() + 10
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the worker goes on"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "script", ["true", "echo '== two and more'", "echo '== two'"], ids=["no such play", "another play", "play is over"]
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_release_that_ended_before_is_no_cut(script: str, number: signal.Signals) -> None:
    assert not cut(script, number)


def test_an_interrupted_release_must_say_how_to_go_on() -> None:
    assert cut(STOPS, signal.SIGINT)
    assert not cut(f"echo '== two'; {STAYS}", signal.SIGINT)


def test_an_interrupted_release_must_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "GRACE_SECONDS", 0.3)

    assert not cut(f"trap '' INT; echo '== two'; {STAYS}", signal.SIGINT)


def test_kills_fall_in_different_phases_and_follow_from_the_seed() -> None:
    set_up, release = stages.phases()
    every = [stages.cuts(seed) for seed in range(1000)]

    assert {first.play for first, _, _ in every} == set(set_up)
    assert {second.play for _, second, _ in every} == {*set_up, *release}
    assert {third.play for _, _, third in every} == set(release)
    assert [cut.signal for cut in every[0]] == [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    assert stages.cuts(7) == every[7]
