"""Which bottleneck stands in the way of a tier, judged from figures: pure, so that each case is tested with figures that were made up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.contracts.loader import ScalingSignal

Bottleneck = Literal["postgresql", "external", "tier", "none", "unknown"]
Figure = tuple[Mapping[str, str], float]
"""A series: its labels and its newest value."""

# What another host would burden is looked at before what it would relieve: a backlog behind an open breaker is no lack of workers.
_PRECEDENCE: tuple[Literal["postgresql", "external", "tier"], ...] = ("postgresql", "external", "tier")
_NAMES = {"postgresql": "PostgreSQL", "external": "an external system"}


@dataclass(frozen=True)
class Judgement:
    """What stands in the way.

    Attributes:
        bottleneck: whose it is; `none` where every figure is within its limit, `unknown` where figures are missing.
        lines: one for each figure, the bottleneck's own first among those that matter.
        refusal: why another host must not be added; empty when it may.
    """

    bottleneck: Bottleneck
    lines: Sequence[str]
    refusal: str


def judge(signals: Mapping[str, ScalingSignal], tier: str, figures: Mapping[str, Sequence[Figure]]) -> Judgement:
    """Name the bottleneck of a tier.

    Args:
        signals: as declared in scaling.yml.
        tier: the tier that is to grow.
        figures: the series that Prometheus gave for each signal; a value that is no number means that nothing happened.
    """
    asked = {name: signal for name, signal in signals.items() if tier in signal.tiers}
    worst = {name: _worst(figures.get(name, ())) for name in asked}
    lines = [_line(name, signal, worst[name], tier) for name, signal in asked.items()]
    missing = [name for name, figure in worst.items() if figure is None]
    if missing:
        return Judgement(
            "unknown", lines, f"figures are missing, so that no bottleneck can be named: {', '.join(missing)}"
        )
    exceeded = {name for name, figure in worst.items() if figure is not None and figure[1] > asked[name].limit}
    for whose in _PRECEDENCE:
        found = [name for name, signal in asked.items() if signal.of == whose and name in exceeded]
        if not found:
            continue
        if whose == "tier":
            return Judgement(whose, lines, "")
        remedies = "; ".join(f"{_line(name, asked[name], worst[name], tier)}: {asked[name].remedy}" for name in found)
        return Judgement(
            whose, lines, f"the bottleneck is {_NAMES[whose]}, and another {tier} host would ask more of it. {remedies}"
        )
    return Judgement("none", lines, "")


def _worst(figures: Iterable[Figure]) -> Figure | None:
    numbers = [(labels, 0.0 if math.isnan(value) else value) for labels, value in figures]
    return max(numbers, key=lambda figure: figure[1], default=None)


def _line(name: str, signal: ScalingSignal, figure: Figure | None, tier: str) -> str:
    whose = tier if signal.of == "tier" else signal.of
    if figure is None:
        return f"{name} ({whose}): missing"
    labels, value = figure
    where = f" at {', '.join(labels.values())}" if labels else ""
    verdict = "beyond" if value > signal.limit else "within"
    return f"{name} ({whose}): {value:.3g} {signal.unit}{where}, {verdict} {signal.limit:g}"
