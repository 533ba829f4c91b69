"""Commands of a canary as playbooks use them: exit status and table of a verdict, and input that is refused by field."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest

from app.application.canary.judgement import Compared, Quantile, Rate, Unmeasured, judge
from app.contracts.loader import load_canary_measures
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.canary_input import Found
from app.entrypoints.admin.commands.release.canary.judge import outcome
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session

MEASURES = {name: load_canary_measures()[name] for name in ("error-rate", "latency-p95")}
ABOUT = {"cohort": "percent:5", "since": "2026-11-30T08:00:00+00:00", "until": "2026-11-30T09:00:00+00:00"}
FAST = Compared(Quantile(0.1, 1000), Quantile(0.1, 1000))
TARGET = {"unit": "api", "instance": "api", "host": "api-1", "url": "http://192.0.2.1:9100/metrics", "installed": True}


def said(errors: int, latency: Compared | Unmeasured = FAST) -> Outcome:
    measured = {"error-rate": Compared(Rate(errors, 1000), Rate(1, 1000)), "latency-p95": latency}
    return outcome(judge(MEASURES, measured), ABOUT)


@pytest.mark.parametrize(
    ("errors", "latency", "verdict", "exit_code"),
    [
        (1, FAST, "promote", 0),
        (50, FAST, "abort", 3),
        (1, Unmeasured("api on api-1: ReadTimeout"), "inconclusive", 4),
        (50, Unmeasured("api on api-1: ReadTimeout"), "abort", 3),
    ],
)
def test_each_verdict_has_an_exit_status_of_its_own(
    errors: int, latency: Compared | Unmeasured, verdict: str, exit_code: int
) -> None:
    made = said(errors, latency)

    assert (made.data["verdict"], made.exit_code) == (verdict, exit_code)
    assert (made.problems == []) == (verdict == "promote")
    assert all(problem.startswith(f"{verdict}: ") for problem in made.problems)


def test_the_table_has_a_line_for_each_measure_and_says_what_was_left_out() -> None:
    head, _, titles, errors, latency, left_out = said(
        50, Unmeasured("all are served alike", applies=False)
    ).report.splitlines()

    assert head == f"abort: percent:5, begun between {ABOUT['since']} and {ABOUT['until']}, against all others"
    assert titles.split() == ["measure", "finding", "critical", "canary", "control", "samples", "limit"]
    assert errors.split("  ")[0] == "error-rate"
    assert all(part in errors for part in ("worse", "yes", "5 % (50)", "0.1 % (1)", "1000 / 1000", "at most 0.3 %"))
    assert latency.split() == ["latency-p95", "left", "out", "yes"]
    assert left_out == "latency-p95: all are served alike"


def test_the_help_says_what_each_exit_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        dispatch.run(["release", "canary", "judge", "--help"], Session({}, "erika"))

    assert ended.value.code == 0
    assert "Exit 0 promote, 3 abort, 4 inconclusive" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"targets": [TARGET], "canary_hosts": []}, "observation_seconds: Field required"),
        ({"targets": [TARGET | {"port": 1}], "canary_hosts": [], "observation_seconds": 1}, "targets.0.port"),
        (
            {"targets": [], "canary_hosts": [], "observation_seconds": 0},
            "observation_seconds: Input should be greater than 0",
        ),
        ({"targets": [], "canary_hosts": "api-1", "observation_seconds": 1}, "canary_hosts"),
    ],
)
def test_a_wrong_field_of_who_is_observed_is_named(document: dict[str, Any], problem: str) -> None:
    made = dispatch.run(["release", "canary", "observe"], Session({}, "erika", document))

    assert made.exit_code == 1
    assert problem in made.problems[0]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"server": {}}, "server: Extra inputs"),
        ({"servers": {"error-rate": {"canary": {"events": 2, "trials": 1}}}}, "servers.error-rate"),
        ({"servers": {"price": {"reason": "no", "applies": True}}}, "servers.price: expected measures of servers"),
        ({"servers": {"errors": {"reason": "no", "applies": True}}}, "servers.errors: expected measures of servers"),
        ({"prices": {"data": {}}}, "prices.release: Field required"),
    ],
)
def test_a_wrong_field_of_what_was_found_is_named(document: dict[str, Any], problem: str) -> None:
    words = ["release", "canary", "judge", "--cohort", "percent:5", "--since", "2026-01-01"]
    made = dispatch.run(words, Session({}, "erika", document))

    assert made.exit_code == 1
    assert any(problem in each for each in made.problems), made.problems


def test_what_was_observed_reaches_the_judge_as_it_was() -> None:
    measured: dict[str, Compared | Unmeasured] = {
        "error-rate": Compared(Rate(1, 600), Rate(0, 601)),
        "latency-p99": Compared(Quantile(math.inf, 500), Quantile(None, 0)),
        "latency-p50": Unmeasured("api on api-1: ReadTimeout"),
    }
    document = json.loads(json.dumps({"servers": {name: asdict(found) for name, found in measured.items()}}))

    assert Found.model_validate(document).servers == measured
