"""One release at a time; one that was killed is finished by the same command."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

from app.application.release_record import hashed
from tests.topology.release.conftest import BASELINE_TAKEN, LEASE, TIMERS, TIMERS_PAUSED, Environment

BEGIN = """
    INSERT INTO cpq.release_run (run_id, release_id, operator, state, holder, heartbeat_at, paused_timers)
    VALUES (gen_random_uuid(), 'cpq-oms-2026.01.01-001', 'somebody', 'running', 'somebody@elsewhere:1:2', {heartbeat}, '{{}}')
"""
END = "DELETE FROM cpq.release_run WHERE holder = 'somebody@elsewhere:1:2'"


def test_a_second_operator_is_refused_by_the_holders_name(environment: Environment) -> None:
    with environment.statement(BEGIN.format(heartbeat="now()"), END):
        run = environment.release()

    assert run.code != 0
    assert "held by somebody@elsewhere:1:2" in run.output
    assert run.changed == 0


def test_a_holder_nobody_heard_of_for_long_is_taken_over(environment: Environment) -> None:
    with environment.statement(BEGIN.format(heartbeat="now() - interval '20 minutes'"), END):
        run = environment.release()
        left = environment.sql("SELECT state, failure FROM cpq.release_run WHERE holder = 'somebody@elsewhere:1:2'")

    assert run.code == 0, run.output
    assert left[0].startswith("failed|taken over by ")


# Lines of the runbook after which the control machine dies.
POINTS = (
    "== Check the platform, open the journal",
    " Keep what was found",
    TIMERS_PAUSED,
    "== Deploy processes that",
    BASELINE_TAKEN,
    "== Prove the release",
)
SHORT_LEASE_SECONDS = 8
SHORT_LEASE = f"[Timer]\nOnActiveSec=\nOnActiveSec={SHORT_LEASE_SECONDS}s\nAccuracySec=1s\n"


def test_a_killed_release_is_finished_by_the_same_command_and_its_timers_do_not_wait_for_that(
    environment: Environment,
) -> None:
    """Killed twice: when it has just paused the timers, with nobody to come for a while, and at a point that the seed chooses."""
    seed = int(os.environ.get("CPQ_TEST_SEED", "56"))
    point = random.Random(seed).choice(POINTS)
    print(f"CPQ_TEST_SEED={seed}: killed at {point!r}")
    environment.make_pending()
    with environment.host.altered({LEASE: SHORT_LEASE}, {}):
        environment.kill_at(TIMERS_PAUSED)
        assert not environment.timer_runs()
        environment.until(environment.timer_runs, "the timer runs again", SHORT_LEASE_SECONDS + 10)
        assert not environment.host.is_active(LEASE)
        state, paused = environment.last_run()
        assert state == "running"
        assert sorted(paused.strip("{}").split(",")) == sorted(f"{environment.host.name}/{timer}" for timer in TIMERS)
    environment.kill_at(point)

    run = environment.release()

    assert run.code == 0, run.output
    # Whatever was done before it died: what was not proven is proven now.
    assert re.search(r"^ *order completed +ok", run.output, re.MULTILINE), run.output
    assert environment.timer_runs()
    assert not environment.host.is_active(LEASE)
    assert environment.last_run() == ("succeeded", "{}")
    assert environment.sql("SELECT count(*) FROM cpq.release_run WHERE state = 'running'") == ["0"]
    assert environment.sql("SELECT enabled FROM cpq.feature_flag WHERE flag = 'order-fulfillment-start'") == ["t"]


def test_the_record_of_releases_is_sealed_and_a_copy_of_it_is_kept_here(environment: Environment) -> None:
    environment.make_pending()
    run = environment.release()
    assert run.code == 0, run.output

    copy = Path("/var/lib/cpq-oms") / environment.host.environment / "release-record.jsonl"
    copied = [json.loads(line) for line in copy.read_text().splitlines()]
    last = f"{copied[-1]['sequence']}:{copied[-1]['hash']}"
    verified = environment.admin("release", "verify", "--known", last)
    assert verified["problems"] == []
    assert verified["data"]["last"] == last
    shown = environment.admin("release", "show")["data"]
    assert [(one["step"], one["state"]) for one in shown["entries"]][:: len(shown["entries"]) - 1] == [
        ("release", "begun"),
        ("release", "succeeded"),
    ]
    # What shows a step is what its hash on record is of, for whoever reads both.
    sealed = {one["step"]: one["evidenceHash"] for one in shown["entries"] if one["evidenceHash"]}
    assert {step: hashed(evidence) for step, evidence in shown["evidence"].items()} == sealed
    assert environment.admin("release", "list")["data"]["runs"][0]["run"] == shown["run"]

    forge = "UPDATE cpq.release_record SET body = replace(body, 'succeeded', 'failed') WHERE sequence = {}"
    sequence = next(one["sequence"] for one in shown["entries"] if one["state"] == "succeeded")
    kept = environment.sql(f"SELECT body FROM cpq.release_record WHERE sequence = {sequence}")[0]
    heal = f"UPDATE cpq.release_record SET body = $body${kept}$body$ WHERE sequence = {sequence}"
    with environment.statement(forge.format(sequence), heal):
        assert environment.admin("release", "verify")["problems"] == [f"entry {sequence} is not what its hash is of"]
    assert environment.admin("release", "verify")["problems"] == []


def test_a_database_that_lost_what_was_on_record_is_released_to_by_nobody(environment: Environment) -> None:
    sequence = environment.sql("SELECT max(sequence) FROM cpq.release_record")[0]
    known = environment.sql(f"SELECT hash FROM cpq.release_record WHERE sequence = {sequence}")[0]
    change = "UPDATE cpq.release_record SET hash = '{}' WHERE sequence = {}"
    with environment.statement(change.format("b" * 64, sequence), change.format(known, sequence)):
        run = environment.release()

    assert run.code != 0
    assert f"has entry {sequence}, and the database has another one" in run.output
    assert run.changed == 0
