"""The judge promotes nothing that nobody saw, aborts for a cent, and seldom for chance."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.application.canary.judgement import (
    Compared,
    Measured,
    Quantile,
    Rate,
    Unmeasured,
    chance_of_more,
    judge,
    quantile_of,
)
from app.application.canary.prices import PriceComparison
from app.contracts.loader import QuantileMeasure, RateMeasure, load_canary_measures

MEASURES = load_canary_measures()
RATES = [name for name, measure in MEASURES.items() if isinstance(measure, RateMeasure)]
QUANTILES = [name for name, measure in MEASURES.items() if isinstance(measure, QuantileMeasure)]
EQUAL = PriceComparison("cpq-oms-2026.11.30-002", "cpq-oms-2026.11.30-001", 500, (), ())


def same(measure: str) -> Compared:
    """Both cohorts alike, with more samples than are wanted."""
    if measure in RATES:
        return Compared(Rate(20, 2000), Rate(20, 2000))
    return Compared(Quantile(0.1, 2000), Quantile(0.1, 2000))


def good(**changed: Measured) -> dict[str, Measured]:
    measured: dict[str, Measured] = {name: same(name) for name in RATES + QUANTILES}
    return measured | {"price": EQUAL} | {name.replace("_", "-"): value for name, value in changed.items()}


def test_equal_cohorts_are_promoted() -> None:
    judgement = judge(MEASURES, good())

    assert (judgement.verdict, judgement.reasons) == ("promote", [])
    assert [row.measure for row in judgement.rows] == [*MEASURES]
    assert {row.finding for row in judgement.rows} == {"within"}


def test_no_traffic_is_inconclusive_and_names_every_measure() -> None:
    judgement = judge(MEASURES, {})

    assert judgement.verdict == "inconclusive"
    assert len(judgement.reasons) == len(MEASURES)


@pytest.mark.parametrize("measure", RATES + QUANTILES)
@pytest.mark.parametrize("cohort", ["canary", "control"])
def test_one_cohort_with_one_sample_too_few_is_inconclusive(measure: str, cohort: str) -> None:
    few = MEASURES[measure].samples - 1
    seen: Rate | Quantile = Rate(0, few) if measure in RATES else Quantile(0.1, few)
    judgement = judge(MEASURES, good() | {measure: replace(same(measure), **{cohort: seen})})

    assert judgement.verdict == "inconclusive"
    assert judgement.reasons == [
        f"{measure}: too few samples: {cohort} {few}; {few + 1} are wanted of each",
    ]


@pytest.mark.parametrize("measure", RATES)
def test_a_rate_that_is_much_worse_says_so_with_its_limit(measure: str) -> None:
    declared = MEASURES[measure]
    worse, well = (Rate(200, 2000), Rate(20, 2000)) if declared.worse == "higher" else (Rate(20, 2000), Rate(200, 2000))
    judgement = judge(MEASURES, good() | {measure: Compared(worse, well)})
    other_way = judge(MEASURES, good() | {measure: Compared(well, worse)})

    assert (judgement.verdict, other_way.verdict) == ("abort", "promote")
    assert f"{worse} against {well}" in judgement.reasons[0]


@pytest.mark.parametrize("measure", QUANTILES)
def test_a_time_beyond_its_limit_aborts_where_it_is_critical_and_is_left_to_people_elsewhere(measure: str) -> None:
    declared = MEASURES[measure]
    assert isinstance(declared, QuantileMeasure)
    allowed = 0.1 * (1 + declared.relative) + declared.absolute
    slow, control = Quantile(allowed * 1.01, 2000), Quantile(0.1, 2000)

    worse = judge(MEASURES, good() | {measure: Compared(slow, control)})
    assert worse.verdict == ("abort" if declared.critical else "inconclusive")
    within = judge(MEASURES, good() | {measure: Compared(replace(slow, seconds=allowed * 0.99), control)})
    assert within.verdict == "promote"


def test_a_difference_that_may_be_chance_is_neither_abort_nor_promotion() -> None:
    judgement = judge(MEASURES, good(error_rate=Compared(Rate(3, 300), Rate(1, 300))))

    assert judgement.verdict == "inconclusive"
    assert "may be chance (0.31): measure longer" in judgement.reasons[0]


def test_a_cent_aborts_whatever_else_is_good_and_however_few_lines_there_are() -> None:
    named = ("quote 7 line 2: 10.01 EUR once and 0.00 EUR per period, and by before 10.00 EUR once",)
    judgement = judge(MEASURES, good(price=replace(EQUAL, lines=1, differences=named)))

    assert judgement.verdict == "abort"
    assert judgement.reasons == [f"price: {named[0]}"]


def test_prices_of_few_lines_or_of_one_release_alone_promote_nothing() -> None:
    few = judge(MEASURES, good(price=replace(EQUAL, lines=MEASURES["price"].samples - 1)))
    alone = judge(MEASURES, good(price=replace(EQUAL, alone=("quote 7 line 2",))))

    assert (few.verdict, alone.verdict) == ("inconclusive", "inconclusive")
    assert "quote 7 line 2" in alone.reasons[0]


def test_what_a_cohort_does_not_have_is_left_out_and_what_nobody_could_see_is_not() -> None:
    measured = good(quote_to_order=Unmeasured("there is none", applies=False))
    unseen = good(quote_to_order=Unmeasured("no answer"))

    assert judge(MEASURES, measured).verdict == "promote"
    assert judge(MEASURES, unseen).verdict == "inconclusive"
    assert judge(MEASURES, dict.fromkeys(MEASURES, Unmeasured("none", applies=False))).verdict == "inconclusive"


def test_a_failing_critical_measure_aborts_while_others_have_too_few() -> None:
    measured: dict[str, Measured] = {"error-rate": Compared(Rate(150, 300), Rate(1, 300))}

    assert judge(MEASURES, measured).verdict == "abort"


@pytest.mark.parametrize("measured", [{"mood": EQUAL}, {"error-rate": EQUAL}, {"latency-p50": same("error-rate")}])
def test_what_is_not_declared_so_is_refused(measured: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"mood|error-rate|latency-p50"):
        judge(MEASURES, measured)


COUNTS = st.integers(0, 3000).flatmap(lambda trials: st.builds(Rate, st.integers(0, trials), st.just(trials)))
TIMES = st.builds(Quantile, st.floats(0.001, 100), st.integers(0, 3000)) | st.just(Quantile(None, 0))
COHORT = st.fixed_dictionaries(dict.fromkeys(RATES, COUNTS) | dict.fromkeys(QUANTILES, TIMES))


def between(canary: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Measured]:
    measured: dict[str, Measured] = {name: Compared(canary[name], control[name]) for name in canary}
    return measured | {"price": EQUAL}


@given(cohort=COHORT)
def test_a_cohort_beside_itself_never_aborts(cohort: Mapping[str, Any]) -> None:
    assert judge(MEASURES, between(cohort, cohort)).verdict != "abort"


@given(one=COHORT, other=COHORT)
def test_two_cohorts_are_never_both_much_worse_than_the_other_in_the_same_measure(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    there, back = (judge(MEASURES, between(*pair)).rows for pair in ((one, other), (other, one)))

    assert not [
        row.measure for row, turned in zip(there, back, strict=True) if row.finding == turned.finding == "worse"
    ]


@given(canary=COHORT, control=COHORT, name=st.sampled_from(RATES), more=st.integers(1, 500))
def test_more_failures_never_make_the_verdict_better(
    canary: Mapping[str, Any], control: Mapping[str, Any], name: str, more: int
) -> None:
    rate, sign = canary[name], 1 if MEASURES[name].worse == "higher" else -1
    worsened = Rate(max(0, min(rate.trials, rate.events + sign * more)), rate.trials)
    order = ["promote", "inconclusive", "abort"]
    before, after = (
        judge(MEASURES, between(cohort, control)).verdict for cohort in (canary, {**canary, name: worsened})
    )

    assert order.index(after) >= order.index(before)


@given(canary=COHORT, control=COHORT, name=st.sampled_from(RATES + QUANTILES))
def test_a_promotion_has_enough_samples_of_everything(
    canary: Mapping[str, Any], control: Mapping[str, Any], name: str
) -> None:
    if judge(MEASURES, between(canary, control)).verdict == "promote":
        assert min(canary[name].samples, control[name].samples) >= MEASURES[name].samples


@settings(max_examples=50)
@given(
    trials=st.tuples(st.integers(1, 40), st.integers(1, 40)), events=st.tuples(st.integers(0, 40), st.integers(0, 40))
)
def test_the_test_of_fisher_is_the_share_of_all_ways_to_deal(trials: tuple[int, int], events: tuple[int, int]) -> None:
    canary, control = (Rate(min(e, t), t) for e, t in zip(events, trials, strict=True))
    dealt = canary.events + control.events
    ways = [
        math.comb(canary.trials, n) * math.comb(control.trials, dealt - n) if dealt >= n else 0
        for n in range(canary.trials + 1)
    ]

    assert chance_of_more(canary, control) == pytest.approx(sum(ways[canary.events :]) / sum(ways))


def test_the_test_of_fisher_stands_large_numbers() -> None:
    assert chance_of_more(Rate(60_000, 1_000_000), Rate(50_000, 1_000_000)) < 1e-100
    assert chance_of_more(Rate(500_000, 1_000_000), Rate(500_000, 1_000_000)) == pytest.approx(0.5, abs=0.01)


def test_cohorts_that_are_truly_alike_are_aborted_one_time_in_twenty_at_most() -> None:
    chance = random.Random(20261130)
    verdicts = [judge(MEASURES, between(_drawn(chance, 0.01), _drawn(chance, 0.01))).verdict for _ in range(200)]

    assert verdicts.count("abort") <= 10


def test_five_errors_more_in_a_hundred_requests_are_found_by_the_least_that_is_asked_for() -> None:
    chance = random.Random(20261130)
    verdicts = [judge(MEASURES, between(_drawn(chance, 0.06), _drawn(chance, 0.002))).verdict for _ in range(100)]

    assert verdicts.count("abort") >= 90
    assert "promote" not in verdicts


def _drawn(chance: random.Random, errors: float) -> dict[str, Rate | Quantile]:
    """A cohort with just enough samples of everything, at times as services have them."""
    drawn: dict[str, Rate | Quantile] = {}
    for name, measure in MEASURES.items():
        if isinstance(measure, RateMeasure):
            share = errors if name == "error-rate" else 0.6 if name == "quote-to-order" else 0.02
            drawn[name] = Rate(sum(chance.random() < share for _ in range(measure.samples)), measure.samples)
        elif isinstance(measure, QuantileMeasure):
            times = sorted(chance.lognormvariate(-2.3, 0.8) for _ in range(measure.samples))
            drawn[name] = Quantile(times[math.ceil(measure.quantile * len(times)) - 1], len(times))
    return drawn


def test_a_quantile_is_reckoned_within_its_bucket() -> None:
    buckets = {0.1: 50.0, 0.2: 90.0, 0.5: 99.0, math.inf: 100.0}

    assert quantile_of(buckets, 0.5) == Quantile(0.1, 100)
    assert quantile_of(buckets, 0.7).seconds == pytest.approx(0.15)
    assert quantile_of(buckets, 0.995) == Quantile(math.inf, 100)
    assert quantile_of({}, 0.5) == Quantile(None, 0)


def test_a_control_beyond_its_figures_allows_nothing_to_be_concluded() -> None:
    endless = Quantile(math.inf, 2000)

    assert judge(MEASURES, good(latency_p95=Compared(endless, endless))).verdict == "inconclusive"
    assert judge(MEASURES, good(latency_p95=Compared(endless, Quantile(0.1, 2000)))).verdict == "abort"
