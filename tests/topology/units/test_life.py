"""A unit is ready only when it works, is restarted when it stands still, and never while it is merely idle."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support import daemons
from tests.support.released_host import ReleasedHost

# A distribution that each deployable cannot work without.
NEEDS = {
    "api": "falcon",
    "callback": "falcon",
    "console": "falcon",
    "consumer": "kafka",
    "relay": "kafka",
    "simulator": "falcon",
    "worker": "pyzeebe",
}
# The instances of a deployable load the same code in the same way; how each of them lives is seen of all at once below.
STARTED = {services[0]: NEEDS[unit] for unit, services in daemons.BY_UNIT.items()}
WATCHDOG_SECONDS = 4
STALL = """\
import signal
import time

# Python runs a signal's handler in the main thread, between two steps of whatever runs there: the event loop stands still.
signal.signal(signal.SIGRTMIN + 5, lambda *_: time.sleep(600))
"""


@pytest.mark.parametrize(("name", "distribution"), sorted(STARTED.items()))
def test_start_fails_when_the_code_cannot_be_loaded(host: ReleasedHost, name: str, distribution: str) -> None:
    broken = f"/run/cpq-oms-test/{distribution}/__init__.py"
    drop_in = "[Service]\nEnvironment=PYTHONPATH=/run/cpq-oms-test\nRestart=no\n"

    with host.altered({name: drop_in}, {broken: "raise ImportError('broken on purpose')\n"}):
        done = host.run(f"systemctl restart {name}", check=False)
        state = host.unit(name)

        assert done.returncode != 0
        assert state["ActiveState"] == "failed"
        assert "broken on purpose" in host.journal(name)
    assert host.is_active(name)


@pytest.mark.parametrize("name", sorted(STARTED))
def test_wrong_settings_are_named_and_not_tried_again(host: ReleasedHost, name: str) -> None:
    with host.altered(
        {name: "[Service]\nEnvironment=LOG_LEVEL=LOUD\nEnvironmentFile=/run/cpq-oms-test/env\n"},
        {"/run/cpq-oms-test/env": "LOG_LEVEL=LOUD\n"},
    ):
        done = host.run(f"systemctl restart {name}", check=False)
        state = host.unit(name)

        assert done.returncode != 0
        assert (state["ActiveState"], state["ExecMainStatus"], state["NRestarts"]) == ("failed", "78", "0")
        assert "LOG_LEVEL" in host.journal(name)
    assert host.is_active(name)


@pytest.fixture(scope="module")
def stalled(host: ReleasedHost) -> Iterator[dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]]]:
    """Each unit as it was after its start, after idling, and after its event loop was stopped: all at once, to save time."""
    drop_in = f"[Service]\nEnvironment=PYTHONPATH=/run/cpq-oms-test\nWatchdogSec={WATCHDOG_SECONDS}\n"
    with host.altered(dict.fromkeys(daemons.ALL, drop_in), {"/run/cpq-oms-test/sitecustomize.py": STALL}):
        host.run(f"systemctl restart {' '.join(daemons.ALL)}")
        started = {name: host.unit(name) for name in daemons.ALL}
        time.sleep(3 * WATCHDOG_SECONDS)
        idle = {name: host.unit(name) for name in daemons.ALL}
        for name in daemons.ALL:
            # The API's loops are in its workers; one of them is enough.
            pid = started[name]["MainPID"]
            victim = host.run(f"pgrep -P {pid} | head -1", check=False).stdout.strip() if "api" in name else pid
            host.run(f"kill -RTMIN+5 {victim}")
        for name in daemons.ALL:
            host.wait_until(
                lambda name=name: host.unit(name)["NRestarts"] != "0" and host.is_active(name),  # type: ignore[misc]
                f"{name} is restarted by the watchdog",
            )
        yield {name: (started[name], idle[name], host.unit(name)) for name in daemons.ALL}


@pytest.mark.parametrize("name", daemons.ALL)
def test_idle_unit_is_left_alone(
    stalled: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]], name: str
) -> None:
    started, idle, _ = stalled[name]

    assert (idle["MainPID"], idle["NRestarts"]) == (started["MainPID"], "0")


@pytest.mark.parametrize("name", daemons.ALL)
def test_blocked_unit_is_restarted(
    host: ReleasedHost, stalled: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]], name: str
) -> None:
    _, idle, restarted = stalled[name]

    assert restarted["MainPID"] != idle["MainPID"]
    assert "Watchdog timeout" in host.journal(name)


def test_the_lease_of_paused_timers_is_renewed_as_fast_as_steps_come(host: ReleasedHost) -> None:
    """systemd by itself refuses a unit's sixth start within ten seconds."""
    try:
        done = host.run("for _ in $(seq 12); do systemctl restart cpq-oms-resume.timer || exit 1; done", check=False)
    finally:
        host.run("systemctl stop cpq-oms-resume.timer")

    assert done.returncode == 0, done.stderr
