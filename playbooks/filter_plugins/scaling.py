"""What is asked before a tier grows, and what the answers mean."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from app.contracts.loader import ScalingSignal, load_scaling_signals
from app.contracts.scaling import Figure, judge


@cache
def _signals() -> Mapping[str, ScalingSignal]:
    return load_scaling_signals()


def scaling_questions(tier: str) -> list[dict[str, str]]:
    """Return name and query of each figure that a tier is judged by."""
    return [
        {"name": name, "query": signal.query.replace("TIER", tier)}
        for name, signal in _signals().items()
        if tier in signal.tiers
    ]


def scaling_judgement(answers: Iterable[Mapping[str, Any]], tier: str) -> dict[str, Any]:
    """Return the bottleneck, a line for each figure, and the refusal, if any.

    Args:
        answers: results of a loop over the questions, each with the question as `item` and Prometheus's document as `json`.
        tier: the tier that is to grow.
    """
    return asdict(judge(_signals(), tier, {answer["item"]["name"]: _figures(answer.get("json")) for answer in answers}))


def _figures(document: Any) -> list[Figure]:
    """Return the series of an answer; of one that did not come, none."""
    try:
        return [(series["metric"], float(series["value"][1])) for series in document["data"]["result"]]
    except (KeyError, TypeError, ValueError):
        return []


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"scaling_judgement": scaling_judgement, "scaling_questions": scaling_questions}
