"""Judges a canary against a control cohort that was measured in the same time; measures nothing itself.

A measure that says nothing promotes nothing: where too little was seen the verdict is `inconclusive`, as it is where a
difference may be chance or where a measure that is not critical is worse. Only what is critical and worse aborts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.application.canary.prices import PriceComparison
from app.contracts.loader import CanaryMeasure, PriceMeasure, QuantileMeasure, RateMeasure

Verdict = Literal["promote", "abort", "inconclusive"]
Finding = Literal["within", "worse", "inconclusive", "left out"]

_PERCENT = 100.0
_SHOWN_DIFFERENCES = 5
# Terms of a sum that has passed its largest one and lost so much beside it change nothing that is compared.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened among so many.

    Raises:
        ValueError: it happened more often than it could, or less than never.
    """

    events: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.trials:
            raise ValueError(f"a rate is of events among trials, not {self.events} of {self.trials}")

    @property
    def samples(self) -> int:
        """Among how many."""
        return self.trials

    @property
    def share(self) -> float:
        """Events by trials; 0 of none."""
        return self.events / self.trials if self.trials else 0.0

    def __str__(self) -> str:
        return f"{_PERCENT * self.share:.3g} % ({self.events})"


@dataclass(frozen=True, slots=True)
class Quantile:
    """Seconds that a share of so many samples kept within; infinite beyond what is told apart, None where there are none."""

    seconds: float | None
    samples: int

    def __str__(self) -> str:
        return "none" if self.seconds is None else f"{self.seconds:.3g} s"


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A measure that nothing was seen of, and why; `applies` says whether the cohort has it at all."""

    reason: str
    applies: bool = True


@dataclass(frozen=True, slots=True)
class Compared:
    """The same of both cohorts."""

    canary: Rate | Quantile
    control: Rate | Quantile


Measured = Compared | PriceComparison | Unmeasured


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of the table: what was seen of both cohorts, from when on it is worse, and what follows."""

    measure: str
    finding: Finding
    critical: bool
    canary: str
    control: str
    samples: str
    limit: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, the measures it stands on, and why it is no promotion."""

    verdict: Verdict
    rows: Sequence[Row]
    reasons: Sequence[str]


def judge(measures: Mapping[str, CanaryMeasure], measured: Mapping[str, Measured]) -> Judgement:
    """Hold each declared measure of the canary to the control's.

    Args:
        measures: as declared in canary.yml.
        measured: by measure; one that is not there counts as not seen.

    Raises:
        ValueError: something was measured that is not declared, or is of another kind.
    """
    if unknown := sorted(set(measured) - set(measures)):
        raise ValueError(f"canary.yml declares no {', '.join(unknown)}")
    rows = [
        _row(name, measure, measured.get(name, Unmeasured("was not measured"))) for name, measure in measures.items()
    ]
    bad = [row for row in rows if row.finding == "worse" and row.critical]
    doubtful = [row for row in rows if row.finding in {"worse", "inconclusive"} and row not in bad]
    seen = [row for row in rows if row.finding == "within"]
    if bad:
        return Judgement("abort", rows, [f"{row.measure}: {row.reason}" for row in bad])
    if doubtful:
        return Judgement("inconclusive", rows, [f"{row.measure}: {row.reason}" for row in doubtful])
    if not seen:
        return Judgement("inconclusive", rows, ["no measure applies to this cohort"])
    return Judgement("promote", rows, [])


def _row(name: str, measure: CanaryMeasure, measured: Measured) -> Row:
    if isinstance(measured, Unmeasured):
        finding: Finding = "inconclusive" if measured.applies else "left out"
        return Row(name, finding, measure.critical, "", "", "", "", measured.reason)
    if isinstance(measure, PriceMeasure) and isinstance(measured, PriceComparison):
        return _price_row(name, measure, measured)
    if isinstance(measured, Compared):
        canary, control = measured.canary, measured.control
        if isinstance(measure, RateMeasure) and isinstance(canary, Rate) and isinstance(control, Rate):
            return _rate_row(name, measure, canary, control)
        if isinstance(measure, QuantileMeasure) and isinstance(canary, Quantile) and isinstance(control, Quantile):
            return _quantile_row(name, measure, canary, control)
    raise ValueError(f"{name} is a {measure.kind}, and what was measured is not")


def _too_few(measure: CanaryMeasure, canary: Rate | Quantile, control: Rate | Quantile) -> str | None:
    few = [
        f"{cohort} {seen.samples}"
        for cohort, seen in (("canary", canary), ("control", control))
        if seen.samples < measure.samples
    ]
    return f"too few samples: {', '.join(few)}; {measure.samples} are wanted of each" if few else None


def _rate_row(name: str, measure: RateMeasure, canary: Rate, control: Rate) -> Row:
    sign = 1 if measure.worse == "higher" else -1
    limit = f"{'at most' if sign > 0 else 'at least'} {_PERCENT * (control.share + sign * measure.absolute):.3g} %"
    probability = chance_of_more(canary, control) if sign > 0 else chance_of_more(_others(canary), _others(control))
    # Rounding must not decide where the difference is the tolerance itself.
    beyond = sign * (canary.share - control.share) > measure.absolute + _NEGLIGIBLE
    finding: Finding
    if too_few := _too_few(measure, canary, control):
        finding, reason = "inconclusive", too_few
    elif not beyond:
        finding, reason = "within", ""
    elif probability > measure.chance:
        finding = "inconclusive"
        reason = f"{canary} against {control} is beyond the limit and may be chance ({probability:.2g}): measure longer"
    else:
        finding = "worse"
        reason = f"{canary} against {control}; by chance so much once in {1 / max(probability, _NEGLIGIBLE):.3g}"
    return Row(name, finding, measure.critical, str(canary), str(control), _samples(canary, control), limit, reason)


def _quantile_row(name: str, measure: QuantileMeasure, canary: Quantile, control: Quantile) -> Row:
    samples = _samples(canary, control)
    shown = (measure.critical, str(canary), str(control), samples)
    too_few = _too_few(measure, canary, control)
    if too_few or canary.seconds is None or control.seconds is None:
        return Row(name, "inconclusive", *shown, "", too_few or "no time was measured")
    allowed = control.seconds * (1 + measure.relative) + measure.absolute
    limit = f"at most {allowed:.3g} s"
    if math.isinf(control.seconds):
        return Row(name, "inconclusive", *shown, limit, "the control's time is beyond what its figures tell apart")
    if canary.seconds > allowed:
        return Row(name, "worse", *shown, limit, f"{canary} against {control}, where {allowed:.3g} s are allowed")
    return Row(name, "within", *shown, limit, "")


def _price_row(name: str, measure: PriceMeasure, compared: PriceComparison) -> Row:
    shown = (measure.critical, compared.canary, compared.control, str(compared.lines), "to the cent")
    if compared.differences:
        named = "; ".join(compared.differences[:_SHOWN_DIFFERENCES])
        more = len(compared.differences) - _SHOWN_DIFFERENCES
        return Row(name, "worse", *shown, named + (f"; and {more} more" if more > 0 else ""))
    if compared.alone:
        named = ", ".join(compared.alone[:_SHOWN_DIFFERENCES])
        return Row(name, "inconclusive", *shown, f"{len(compared.alone)} lines are in one file alone, such as {named}")
    if compared.lines < measure.samples:
        return Row(name, "inconclusive", *shown, f"too few lines: {compared.lines}; {measure.samples} are wanted")
    return Row(name, "within", *shown, "")


def _samples(canary: Rate | Quantile, control: Rate | Quantile) -> str:
    return f"{canary.samples} / {control.samples}"


def _others(rate: Rate) -> Rate:
    return Rate(rate.trials - rate.events, rate.trials)


def chance_of_more(canary: Rate, control: Rate) -> float:
    """How probable it is that equal cohorts differ so much: Fisher's exact test, one-sided.

    Of all ways to deal the events of both cohorts to their trials, the share that gives the canary as many or more. Exact
    also where events are few, unlike a test that takes shares for normal; more events in the canary never make it larger.
    """
    events, trials = canary.events + control.events, canary.trials + control.trials
    most = min(events, canary.trials)
    if canary.events == max(0, events - control.trials):
        return 1.0
    whole = _log_ways(trials, canary.trials)
    terms: list[float] = []
    largest = 0.0
    for dealt in range(canary.events, most + 1):
        ways = _log_ways(events, dealt) + _log_ways(trials - events, canary.trials - dealt)
        term = math.exp(ways - whole)
        terms.append(term)
        if term < largest * _NEGLIGIBLE:
            break
        largest = max(largest, term)
    return min(1.0, math.fsum(terms))


def _log_ways(of: int, chosen: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)


def quantile_of(buckets: Mapping[float, float], quantile: float) -> Quantile:
    """A quantile from a histogram's counts.

    Args:
        buckets: how many samples were at most so many seconds, by that bound; infinity among the bounds has all.
        quantile: above 0 and below 1.

    Returns:
        Seconds by a straight line through the bucket that holds it, as Prometheus reckons; infinite in the last one.
    """
    total = buckets.get(math.inf, 0.0)
    if total <= 0:
        return Quantile(None, 0)
    wanted = quantile * total
    lower, below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            seconds = bound if math.isinf(bound) else lower + (bound - lower) * (wanted - below) / (count - below)
            return Quantile(seconds, round(total))
        lower, below = bound, count
    raise ValueError(f"a histogram whose counts fall: {dict(buckets)}")
