"""What was counted goes to the cohort it belongs to, and what cannot be told says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.application.canary.judgement import Compared, Quantile, Rate, Unmeasured
from app.application.canary.measurement import FlowGroup, of_flows, of_servers
from app.application.release_checks import Figures, Sample, Target
from app.contracts.loader import load_canary_measures
from app.domain.canary import Cohort, Flow
from app.domain.values import TenantId

MEASURES = load_canary_measures()
SERVERS = ("error-rate", "latency-p50", "latency-p95", "latency-p99")
HOSTS = ("api-1", "api-2", "api-3")
TARGETS = [Target("api", "api", host, f"http://{host}:9100/metrics", installed=True) for host in HOSTS]
TARGETS.append(Target("relay", "relay", "relay-1", "http://relay-1:9120/metrics", installed=True))


def group(tenant: str, quotes: int, *seconds: float, process: str | None = None) -> FlowGroup:
    return FlowGroup(Flow(TenantId(tenant), frozenset(), process), quotes, quotes // 2, quotes, 1, seconds)


def test_groups_are_added_up_by_cohort() -> None:
    groups = [group("acme", 10, 1, 3), group("globex", 20, 2), group("other", 40, 5, 4)]
    measured = of_flows(MEASURES, Cohort.parse("tenant:acme,globex"), groups)

    assert measured["quote-to-order"] == Compared(Rate(15, 30), Rate(20, 40))
    assert measured["fallout-rate"] == Compared(Rate(2, 30), Rate(1, 40))
    assert measured["task-lead-time-p50"] == Compared(Quantile(2, 3), Quantile(4, 2))
    assert measured["task-lead-time-p95"] == Compared(Quantile(3, 3), Quantile(5, 2))
    assert set(measured) == {"quote-to-order", "fallout-rate", "task-lead-time-p50", "task-lead-time-p95"}


def test_conversion_is_left_out_for_a_process_version_that_is_chosen_after_it() -> None:
    measured = of_flows(MEASURES, Cohort.parse("process:order-fulfillment-v2"), [group("acme", 2)])

    assert measured["quote-to-order"] == Unmeasured("a process version is chosen when there is an order", applies=False)
    assert measured["fallout-rate"] == Compared(Rate(0, 0), Rate(1, 2))


def figures(**by_host: tuple[int, int, int]) -> Figures:
    """Answers, errors among them, and how many took longer than 0.1 s, by host."""

    def samples(answered: int, errors: int, slow: int) -> list[Sample]:
        route = {"method": "GET", "route": "/v1/quotes"}
        return [
            Sample("cpq_api_requests_total", route | {"status": "200"}, answered - errors),
            Sample("cpq_api_requests_total", route | {"status": "503"}, errors),
            Sample("cpq_api_requests_total", {"method": "GET", "route": "/health/ready", "status": "503"}, 1000),
            Sample("cpq_api_request_seconds_bucket", {"le": "0.1"}, answered - slow),
            Sample("cpq_api_request_seconds_bucket", {"le": "0.2"}, answered),
            Sample("cpq_api_request_seconds_bucket", {"le": "+Inf"}, answered),
        ]

    return Figures({f"api on {host.replace('_', '-')}": samples(*counts) for host, counts in by_host.items()})


BEFORE = figures(api_1=(100, 50, 0), api_2=(100, 50, 0), api_3=(0, 0, 0))
AFTER = figures(api_1=(600, 51, 0), api_2=(400, 60, 300), api_3=(500, 1, 0))


def test_servers_of_the_canary_are_measured_beside_the_others_by_what_they_grew() -> None:
    measured = of_servers(MEASURES, TARGETS, {"api-2"}, BEFORE, AFTER)

    assert measured["error-rate"] == Compared(Rate(10, 300), Rate(2, 1000))
    assert measured["latency-p50"] == Compared(Quantile(0.1 + 0.1 * 0.5, 300), Quantile(0.05, 1000))
    assert tuple(measured) == SERVERS


def test_servers_are_left_out_where_none_serves_the_canary_alone() -> None:
    measured = of_servers(MEASURES, TARGETS, set(), BEFORE, AFTER)

    assert measured == dict.fromkeys(SERVERS, Unmeasured("no host serves the canary alone", applies=False))


def test_a_server_that_does_not_answer_leaves_nothing_to_be_concluded() -> None:
    silent = replace(AFTER, silent={"api on api-2": "ConnectError", "relay on relay-1": "ReadTimeout"})
    measured = of_servers(MEASURES, TARGETS, {"api-2"}, BEFORE, silent)

    assert measured == dict.fromkeys(SERVERS, Unmeasured("api on api-2: ConnectError"))


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ({"api-9"}, "canary_hosts: no API is installed on api-9"),
        ({"relay-1"}, "canary_hosts: no API is installed on relay-1"),
        ({*HOSTS}, "canary_hosts: no host is left for the control"),
    ],
)
def test_hosts_that_leave_nothing_to_compare_are_refused(hosts: set[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        of_servers(MEASURES, TARGETS, hosts, BEFORE, AFTER)


def test_every_declared_figure_is_measured() -> None:
    measured: dict[str, Any] = of_flows(MEASURES, Cohort.parse("percent:5"), [])
    measured |= of_servers(MEASURES, TARGETS, {"api-2"}, BEFORE, AFTER)

    assert {*MEASURES} - {*measured} == {"price"}
