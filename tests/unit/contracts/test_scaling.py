"""Each bottleneck is named from figures that show it, and another host is refused where it would not help."""

from __future__ import annotations

from typing import Any

import pytest

from app.contracts.loader import load_scaling_signals
from app.contracts.scaling import Figure, judge
from playbooks.filter_plugins.scaling import scaling_judgement, scaling_questions

SIGNALS = load_scaling_signals()
TIERS = ("api", "worker")


def calm(tier: str) -> dict[str, list[Figure]]:
    """Figures of a tier that has nothing to do."""
    return {name: [({}, 0.0)] for name, signal in SIGNALS.items() if tier in signal.tiers}


def beyond(tier: str, *names: str) -> dict[str, list[Figure]]:
    """Figures of which some are over their limits, at one of two hosts."""
    high: dict[str, list[Figure]] = {
        name: [({"host": "here"}, 0.0), ({"host": "there"}, SIGNALS[name].limit + 0.01)] for name in names
    }
    return calm(tier) | high


@pytest.mark.parametrize(
    ("tier", "name"), [(tier, name) for name, signal in SIGNALS.items() for tier in signal.tiers], ids=" ".join
)
def test_each_figure_beyond_its_limit_names_its_bottleneck(tier: str, name: str) -> None:
    signal = SIGNALS[name]
    judgement = judge(SIGNALS, tier, beyond(tier, name))

    assert judgement.bottleneck == signal.of
    assert (judgement.refusal == "") == (signal.of == "tier")
    assert signal.of == "tier" or (name in judgement.refusal and signal.remedy in judgement.refusal)
    assert [line for line in judgement.lines if "beyond" in line and "there" in line and line.startswith(name)]


@pytest.mark.parametrize(("tier", "name"), [(tier, name) for tier in TIERS for name in calm(tier)], ids=" ".join)
def test_a_figure_that_nobody_tells_is_named_and_refuses(tier: str, name: str) -> None:
    judgement = judge(SIGNALS, tier, calm(tier) | {name: []})

    assert judgement.bottleneck == "unknown"
    assert judgement.refusal.endswith(f": {name}")


@pytest.mark.parametrize("tier", TIERS)
def test_where_nothing_is_at_its_limit_no_bottleneck_is_named_and_a_host_may_come(tier: str) -> None:
    at_limit: dict[str, list[Figure]] = {name: [({}, SIGNALS[name].limit)] for name in calm(tier)}

    for figures in (calm(tier), at_limit):
        judgement = judge(SIGNALS, tier, figures)
        assert (judgement.bottleneck, judgement.refusal) == ("none", "")


def test_a_backlog_behind_an_open_breaker_is_no_lack_of_workers() -> None:
    judgement = judge(
        SIGNALS, "worker", beyond("worker", "job-backlog", "job-activation-latency", "external-breakers-open")
    )

    assert judgement.bottleneck == "external"


def test_what_waits_for_a_busy_database_is_no_lack_of_hosts() -> None:
    figures = beyond("api", "database-pool-wait", "request-latency", "database-processor")

    assert judge(SIGNALS, "api", figures).bottleneck == "postgresql"
    assert judge(SIGNALS, "api", beyond("api", "database-pool-wait", "request-latency")).bottleneck == "tier"


def test_a_quotient_of_nothing_is_nothing() -> None:
    nothing: Figure = ({}, float("nan"))

    assert judge(SIGNALS, "api", calm("api") | {"request-latency": [nothing]}).bottleneck == "none"
    assert judge(SIGNALS, "api", calm("api") | {"request-latency": [nothing, ({}, 9.0)]}).bottleneck == "tier"


def test_answers_of_prometheus_are_read_and_those_that_did_not_come_are_missing() -> None:
    def answer(name: str, document: Any) -> dict[str, Any]:
        return {"item": {"name": name}, "json": document}

    questions = scaling_questions("worker")
    assert all("TIER" not in question["query"] for question in questions)
    assert any('unit=~"worker(@.+)?"' in question["query"] for question in questions)
    series = [{"metric": {"system": "billing"}, "value": [0, "1"]}]
    answers = [
        answer(question["name"], {"data": {"result": [{"metric": {}, "value": [0, "0"]}]}}) for question in questions
    ]
    answers.append(answer("external-breakers-open", {"data": {"result": series}}))

    judgement = scaling_judgement(answers, "worker")
    assert judgement["bottleneck"] == "external"
    assert "at billing" in judgement["refusal"]
    assert scaling_judgement([*answers, {"item": {"name": "job-backlog"}}], "worker")["bottleneck"] == "unknown"
