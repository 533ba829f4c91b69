"""Who may take a release that is under way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.application.release_run import Holder, RunningRelease, takeover

HOLDER = "ana@control-1:100:boot-7"
STARTED = datetime(2026, 11, 22, 12, tzinfo=UTC)


def running(silent_seconds: float = 1.0) -> RunningRelease:
    return RunningRelease("cpq-oms-2026.11.22-001", HOLDER, STARTED, silent_seconds)


def asking(name: str, *living: str) -> Holder:
    return Holder(name, "ben", frozenset({name, *living}), timedelta(minutes=15))


def test_the_holder_goes_on() -> None:
    assert takeover(running(), asking(HOLDER)).allowed


def test_a_living_playbook_of_the_same_host_is_left_alone_and_named() -> None:
    decision = takeover(running(), asking("ben@control-1:200:boot-9", HOLDER))

    assert not decision.allowed
    assert HOLDER in decision.reason
    assert "cpq-oms-2026.11.22-001" in decision.reason


@pytest.mark.parametrize("name", ["ben@control-1:200:boot-9", "ana@control-1:100:boot2-7"])
def test_a_playbook_that_runs_no_more_on_the_asking_host_is_taken_over(name: str) -> None:
    """A reused process number after a reboot has another start, so it is another playbook."""
    assert takeover(running(), asking(name)).allowed


def test_a_holder_on_another_host_is_dead_only_after_a_long_silence() -> None:
    elsewhere = asking("ben@control-2:200:boot-9")

    assert not takeover(running(silent_seconds=899), elsewhere).allowed
    assert takeover(running(silent_seconds=901), elsewhere).allowed
