"""How measurements are judged: by their growth, with names, and never as passed when there was nothing to see."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from app.application.release_checks import (
    Check,
    Figures,
    Limits,
    Sample,
    Window,
    WindowRule,
    api_latency,
    business_success,
    error_rate,
    failures,
    increases,
    kafka_lag,
    kafka_topics,
    outbox_backlog,
    redis_namespace,
    silent_units,
)

LIMITS = Limits(
    database_connections_percent=80,
    database_lock_wait_seconds=2,
    kafka_unavailable_partitions=0,
    camunda_unhealthy_partitions=0,
    redis_memory_percent=90,
    api_error_percent=1,
    api_p95_seconds=0.5,
    outbox_backlog_records=1000,
    open_incidents_and_fallout=10,
    consumer_lag_records=1000,
    business_success_percent=95,
)
API = "api on api-1"


def requests(counts: Mapping[str, float], route: str = "/v1/quotes") -> list[Sample]:
    return [
        Sample("cpq_api_requests_total", {"method": "GET", "route": route, "status": status}, count)
        for status, count in counts.items()
    ]


def looked(*samples: Sample, target: str = API) -> Figures:
    return Figures({target: list(samples)})


def test_growth_is_counted_per_series_and_a_restarted_process_starts_at_zero() -> None:
    before = looked(*requests({"200": 100, "500": 7}))
    after = looked(*requests({"200": 104, "500": 2}))

    assert [sample.value for sample in increases(before, after, "cpq_api_requests_total")] == [4, 2]


@pytest.mark.parametrize(("errors", "verdict"), [(1, "passed"), (2, "failed")])
def test_the_error_rate_is_held_to_its_limit(errors: float, verdict: str) -> None:
    before = looked(*requests({"200": 0, "500": 0}))
    after = looked(*requests({"200": 100 - errors, "500": errors}))

    assert error_rate(before, after, LIMITS).verdict == verdict


def test_the_error_rate_names_the_routes_that_fail() -> None:
    check = error_rate(looked(), looked(*requests({"503": 5}, route="/v1/orders/{id}")), LIMITS)

    assert check.verdict == "failed"
    assert "/v1/orders/{id}" in check.measured


def test_probes_and_scrapes_are_no_traffic() -> None:
    check = error_rate(looked(), looked(*requests({"200": 50}, route="/metrics")), LIMITS)

    assert check.verdict == "inconclusive"


def test_before_the_first_installation_there_is_nothing_to_judge() -> None:
    nothing = Figures({}, absent=[API])

    assert error_rate(nothing, nothing, LIMITS).verdict == "not installed yet"
    assert outbox_backlog(None, None, LIMITS).verdict == "not installed yet"


def buckets(counts: Mapping[float, float]) -> Figures:
    return looked(
        *(
            Sample("cpq_api_request_seconds_bucket", {"le": "+Inf" if bound == math.inf else str(bound)}, count)
            for bound, count in counts.items()
        )
    )


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({0.1: 95, 0.5: 95, 1.0: 100, math.inf: 100}, "passed"),
        ({0.1: 90, 0.5: 94, 1.0: 100, math.inf: 100}, "failed"),
        ({0.1: 0, 0.5: 0, 1.0: 0, math.inf: 0}, "inconclusive"),
    ],
)
def test_latency_is_the_bucket_of_the_95th_percentile(counts: Mapping[float, float], verdict: str) -> None:
    assert api_latency(buckets(dict.fromkeys(counts, 0.0)), buckets(counts), LIMITS).verdict == verdict


def test_the_relays_figure_is_preferred_and_a_count_is_said_to_be_one() -> None:
    assert outbox_backlog(1001, None, LIMITS).verdict == "failed"
    assert "counted" in outbox_backlog(None, 3, LIMITS).measured


def test_lag_without_a_consumer_is_inconclusive() -> None:
    assert kafka_lag(looked(), LIMITS).verdict == "inconclusive"
    assert kafka_lag(looked(Sample("cpq_consumer_lag_records", {"group": "g"}, 1001)), LIMITS).verdict == "failed"


@pytest.mark.parametrize(
    ("completed", "failed", "verdict"), [(0, 0, "inconclusive"), (95, 5, "passed"), (94, 6, "failed"), (0, 1, "failed")]
)
def test_business_success_is_a_share_of_what_ended(completed: int, failed: int, verdict: str) -> None:
    assert business_success(completed, failed, LIMITS).verdict == verdict


def test_every_failure_has_a_remedy() -> None:
    failed = failures(
        [
            outbox_backlog(5000, None, LIMITS),
            kafka_lag(looked(Sample("cpq_consumer_lag_records", {}, 5000)), LIMITS),
            business_success(0, 1, LIMITS),
            error_rate(looked(), looked(*requests({"500": 1})), LIMITS),
            silent_units(Figures({}, silent={API: "refused"})) or Check("none", "passed", "", ""),
        ]
    )

    assert len(failed) == 5
    assert all(check.remedy for check in failed)


def window(samples: int = 5, *, bad_in_a_row: int = 2, bad_percent: float = 20) -> Window:
    return Window(WindowRule(samples, 1, bad_in_a_row, bad_percent), LIMITS, looked())


SILENT = Figures({}, silent={API: "refused"})


def test_a_window_fails_as_soon_as_enough_samples_in_a_row_are_bad() -> None:
    it = window(samples=10, bad_percent=100)
    it.take(looked())
    it.take(SILENT)
    assert not it.failed

    it.take(SILENT)

    assert it.failed
    assert it.looks == 3
    assert "api on api-1 does not answer" in it.checks()[0].measured


def test_a_window_fails_when_too_many_samples_apart_are_bad() -> None:
    it = window(samples=5, bad_in_a_row=5, bad_percent=20)
    for figures in (SILENT, looked(), SILENT):
        it.take(figures)

    assert it.failed


def test_one_bad_sample_of_five_is_forgiven_and_shown() -> None:
    it = window()
    for figures in (looked(), SILENT, looked(), looked(), looked()):
        it.take(figures)

    assert it.over
    assert not it.failed
    assert it.checks()[0].verdict == "passed"
    assert "sample 2" in it.checks()[0].measured


def test_a_restart_within_the_window_is_bad() -> None:
    it = Window(WindowRule(2, 1, 2, 20), LIMITS, looked(Sample("process_start_time_seconds", {}, 1)))

    assert it.take(looked(Sample("process_start_time_seconds", {}, 2))) == [f"{API} was restarted"]


def test_a_window_without_traffic_says_that_it_could_not_judge_errors() -> None:
    it = window(samples=1)
    it.take(looked())

    assert [(check.name, check.verdict) for check in it.checks()] == [
        ("window", "passed"),
        ("window-error-rate", "inconclusive"),
    ]


def test_errors_of_one_sample_are_judged_against_the_look_before() -> None:
    it = window()
    it.take(looked(*requests({"500": 10})))

    reasons = it.take(looked(*requests({"500": 10, "200": 50})))

    assert reasons == []
    assert len(it.bad) == 1


USERS = {"admin": ("%R~*", "~ci:*:catalog:*"), "api": ("~ci:*:catalog:*",), "monitor": ()}


def test_a_cache_of_this_environment_alone_passes() -> None:
    check = redis_namespace("ci", USERS, {**USERS, "operator": ()}, 0, "")

    assert (check.name, check.verdict) == ("redis-namespace", "passed")


@pytest.mark.parametrize(
    ("found", "foreign", "measured"),
    [
        ({"api": {"~staging:*:catalog:*"}}, 0, "user api: expected ~ci:*:catalog:*, found ~staging:*:catalog:*"),
        ({"api": {"~ci:*:catalog:*", "~*"}}, 0, "user api: expected no such pattern, found ~*"),
        ({"api": set()}, 0, "user api: expected ~ci:*:catalog:*, found none of it"),
        ({}, 3, "3 keys of another environment, such as staging:x"),
        (
            {"api": {"~*"}},
            1,
            "user api: expected ~ci:*:catalog:*, found ~*; 1 keys of another environment, such as staging:x",
        ),
    ],
)
def test_a_cache_that_another_environment_has_a_hand_in_is_refused(
    found: dict[str, set[str]], foreign: int, measured: str
) -> None:
    check = redis_namespace("ci", USERS, {**USERS, **found}, foreign, "staging:x")

    assert (check.verdict, check.measured) == ("failed", measured)
    assert ("playbooks/redis.yml" in check.remedy, "REDIS_URL" in check.remedy) == (bool(found), bool(foreign))


def test_a_user_that_is_not_there_is_refused_by_name() -> None:
    check = redis_namespace("ci", USERS, {"api": USERS["api"], "monitor": ()}, 0, "")

    assert (check.verdict, check.measured) == ("failed", "there is no user admin")


def test_a_topic_that_what_is_installed_uses_and_that_is_gone_is_named() -> None:
    assert kafka_topics(["a", "b"], ["b", "a", "new"]).verdict == "passed"
    assert kafka_topics([], ["a"]).verdict == "not installed yet"
    gone = kafka_topics(["a", "c", "b"], ["b"])

    assert (gone.verdict, gone.measured) == ("failed", "not there: a, c")
    assert "topics apply" in gone.remedy
