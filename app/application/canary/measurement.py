"""Makes what was counted of flows and servers into measures of two cohorts, by the names of canary.yml."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from app.application.canary.judgement import Compared, Measured, Quantile, Rate, Unmeasured, quantile_of
from app.application.release_checks import Figures, Target, client_requests, increases, is_server_error
from app.contracts.loader import CanaryMeasure, QuantileMeasure
from app.domain.canary import Cohort, Dimension, Flow

_SERVERS = "api"


@dataclass(frozen=True, slots=True)
class FlowGroup:
    """What became of the flows of a time that are alike in all that a cohort may be chosen by.

    Attributes:
        flow: what they have in common.
        quotes: begun in the time.
        converted: of these, how many became an order.
        orders: placed in the time.
        fell_out: of these, how many failed or waited for a person.
        task_seconds: for each completed task of these orders, how long after the one before it, or after the order.
    """

    flow: Flow
    quotes: int = 0
    converted: int = 0
    orders: int = 0
    fell_out: int = 0
    task_seconds: Sequence[float] = ()


def of_flows(measures: Mapping[str, CanaryMeasure], cohort: Cohort, groups: Iterable[FlowGroup]) -> dict[str, Measured]:
    """Measure quotes and orders of the cohort beside all others."""
    canary, control = _Flows(), _Flows()
    for group in groups:
        (canary if cohort.holds(group.flow) else control).add(group)
    measured: dict[str, Measured] = {}
    for name, measure in measures.items():
        if measure.figure == "conversion" and cohort.dimension is Dimension.PROCESS:
            measured[name] = Unmeasured("a process version is chosen when there is an order", applies=False)
        elif measure.figure == "conversion":
            measured[name] = Compared(Rate(canary.converted, canary.quotes), Rate(control.converted, control.quotes))
        elif measure.figure == "fallout":
            measured[name] = Compared(Rate(canary.fell_out, canary.orders), Rate(control.fell_out, control.orders))
        elif isinstance(measure, QuantileMeasure) and measure.figure == "task-lead-time":
            measured[name] = Compared(
                _of_sorted(canary.seconds, measure.quantile), _of_sorted(control.seconds, measure.quantile)
            )
    return measured


def of_servers(
    measures: Mapping[str, CanaryMeasure],
    targets: Sequence[Target],
    canary_hosts: AbstractSet[str],
    before: Figures,
    after: Figures,
) -> dict[str, Compared | Unmeasured]:
    """Measure the API's servers that get the canary's requests beside the others, between two looks.

    Where nobody is named for the canary, both cohorts are served by the same, and nothing is told of servers.

    Raises:
        ValueError: a host of the canary has no API, or none is left for the control.
    """
    names = [name for name, measure in measures.items() if measure.figure in {"errors", "latency"}]
    if not canary_hosts:
        return dict.fromkeys(names, Unmeasured("no host serves the canary alone", applies=False))
    servers = [target for target in targets if target.unit == _SERVERS and target.installed]
    if strange := sorted(canary_hosts - {target.host for target in servers}):
        raise ValueError(f"canary_hosts: no API is installed on {', '.join(strange)}")
    canary = {target.name for target in servers if target.host in canary_hosts}
    control = {target.name for target in servers} - canary
    if not control:
        raise ValueError("canary_hosts: no host is left for the control")
    silent = {name: reason for look in (before, after) for name, reason in look.silent.items()}
    if unheard := [f"{name}: {silent[name]}" for name in sorted(canary | control) if name in silent]:
        return dict.fromkeys(names, Unmeasured("; ".join(unheard)))
    looks = [(_part(before, cohort), _part(after, cohort)) for cohort in (canary, control)]
    errors = Compared(*(_errors(*each) for each in looks))
    buckets = [_buckets(*each) for each in looks]
    measured: dict[str, Compared | Unmeasured] = {}
    for name in names:
        measure = measures[name]
        measured[name] = (
            Compared(*(quantile_of(each, measure.quantile) for each in buckets))
            if isinstance(measure, QuantileMeasure)
            else errors
        )
    return measured


class _Flows:
    """The groups of one cohort together."""

    def __init__(self) -> None:
        self.quotes = self.converted = self.orders = self.fell_out = 0
        self._seconds: list[float] = []

    def add(self, group: FlowGroup) -> None:
        self.quotes += group.quotes
        self.converted += group.converted
        self.orders += group.orders
        self.fell_out += group.fell_out
        self._seconds += group.task_seconds

    @property
    def seconds(self) -> list[float]:
        return sorted(self._seconds)


def _of_sorted(seconds: Sequence[float], quantile: float) -> Quantile:
    """The smallest of them that so large a share does not exceed."""
    if not seconds:
        return Quantile(None, 0)
    return Quantile(seconds[math.ceil(quantile * len(seconds)) - 1], len(seconds))


def _part(figures: Figures, names: AbstractSet[str]) -> Figures:
    return Figures({name: samples for name, samples in figures.samples.items() if name in names})


def _errors(before: Figures, after: Figures) -> Rate:
    requests = client_requests(before, after)
    errors = sum(sample.value for sample in requests if is_server_error(sample))
    return Rate(round(errors), round(sum(sample.value for sample in requests)))


def _buckets(before: Figures, after: Figures) -> dict[float, float]:
    buckets: dict[float, float] = {}
    for sample in increases(before, after, "cpq_api_request_seconds_bucket"):
        bound = float(sample.labels["le"])
        buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return buckets
