"""One release at a time; one that was killed is finished by the same command."""

from __future__ import annotations

import random

import pytest

from tests.topology.release.conftest import BASELINE_TAKEN, Environment

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
    "Check the platform, open the journal",
    "Keep what was found",
    "Deploy processes, set flags",
    BASELINE_TAKEN,
    "smoke : Validating",
)


@pytest.mark.parametrize("seed", [20261122])
def test_a_killed_release_is_finished_by_the_same_command(environment: Environment, seed: int) -> None:
    point = random.Random(seed).choice(POINTS)
    environment.make_pending()
    with environment.start() as process:
        assert process.stdout is not None
        for line in process.stdout:
            if point in line:
                environment.kill(process)
                break

    run = environment.release()

    assert run.code == 0, run.output
    assert environment.timer_runs()
    assert environment.last_run() == ("succeeded", "{}")
    assert environment.sql("SELECT count(*) FROM cpq.release_run WHERE state = 'running'") == ["0"]
    assert environment.sql("SELECT enabled FROM cpq.feature_flag WHERE flag = 'order-fulfillment-start'") == ["t"]
