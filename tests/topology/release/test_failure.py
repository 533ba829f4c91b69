"""A step that fails ends the release by its name, with what the unit at fault said; timers run again and the same command goes on."""

from __future__ import annotations

from tests.topology.release.conftest import BASELINE_TAKEN, LEASE, TIMERS_PAUSED, Environment, Run

RELAY = "cpq-oms-relay.service"
SAID = "planted: this relay does not start"
# 78 is not tried again.
NO_START = f"[Service]\nExecStartPre=/bin/sh -c 'echo {SAID}; exit 78'\n"
# A contract that no text reader can read: what looks at the host stumbles over it.
UNREADABLE = "/opt/cpq-oms/admin/current/lib/python3.13/site-packages/app/contracts/topics/planted.yml"


def test_a_release_that_fails_in_the_middle_says_where_lets_timers_run_and_goes_on(environment: Environment) -> None:
    """Three runs of one command: a unit does not start; then the host cannot be looked at; then nothing is wrong."""
    host = environment.host
    stopped: list[bool] = []
    with host.altered({RELAY: NO_START}, {}):
        host.run(f"systemctl stop {RELAY}")
        run = environment.release(at={TIMERS_PAUSED: lambda: stopped.append(not environment.timer_runs())})
        host.run(f"systemctl stop {RELAY}")

        assert failed(environment, run, f"relay: {RELAY} did not start (exit-code):"), run.output
        assert SAID in block(run)
        assert stopped == [True], "the timer ran while the release changed something"
        assert "== Deploy processes" not in run.output
        host.run(f"rm /run/systemd/system/{RELAY}.d/*; systemctl daemon-reload")
        try:
            run = environment.release(at={BASELINE_TAKEN: lambda: host.run(f"printf '\\377' > {UNREADABLE}")})
        finally:
            host.run(f"rm -f {UNREADABLE}")

        assert failed(environment, run, "last look: "), run.output
        assert "codec can't decode byte 0xff" in run.output
        assert "== Prove the release" not in run.output
        assert host.is_active(RELAY)
    environment.make_pending()

    run = environment.release()

    assert run.code == 0, run.output
    assert environment.last_run() == ("succeeded", "{}")


def test_a_smoke_test_that_fails_names_its_step_and_shows_what_the_unit_at_fault_said(environment: Environment) -> None:
    host = environment.host
    environment.make_pending()
    try:
        run = environment.release(
            "-e", "smoke_timeout=5", at={BASELINE_TAKEN: lambda: host.run(f"systemctl stop {RELAY}")}
        )
        last = host.run(f"journalctl --no-pager --output=cat --lines=1 --unit={RELAY}").stdout.strip()
    finally:
        host.run(f"systemctl start {RELAY}")

    assert failed(environment, run, "proof: smoke test: publish and consume an event: "), run.output
    shown = [line.strip() for line in block(run).partition(f"Last lines of {RELAY}")[2].splitlines()]
    assert last in shown


def failed(environment: Environment, run: Run, reason: str) -> bool:
    """Whether the release failed for the reason, said so on its host and in its journal, and let the timers run again."""
    failure = environment.sql("SELECT failure FROM cpq.release_run ORDER BY started_at DESC LIMIT 1")[0]
    return (
        run.code != 0
        and f"reason   {environment.host.name}: {reason}" in run.output
        and failure.startswith(reason)
        and environment.last_run() == ("failed", "{}")
        and environment.timer_runs()
        and not environment.host.is_active(LEASE)
    )


def block(run: Run) -> str:
    """What the release shows in the end."""
    return run.output.partition("FAILED  host_base : journal | Fail with what the units said")[2]
