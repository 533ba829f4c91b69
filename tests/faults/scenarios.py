"""Reads the scenarios and chooses those of a short run by its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.faults.injections import INJECTIONS
from tests.faults.trial import Fault

FILE = Path(__file__).with_name("scenarios.yml")
_FIELDS = {"rows", "claim", "budget", "pool", "expect", "faults", "pace"}
_PACE = 2.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; see scenarios.yml for its fields."""

    name: str
    rows: tuple[str, ...]
    claim: str
    budget: float
    pool: str | None
    expect: str | None
    pace: float
    faults: tuple[Fault, ...]


def load_scenarios(path: Path = FILE) -> dict[str, Scenario]:
    """Read all scenarios, in the file's order.

    Raises:
        ValueError: an unknown field, injection or argument; the message names the scenario.
    """
    return {name: _scenario(name, entry) for name, entry in yaml.safe_load(path.read_text()).items()}


def choose(scenarios: Mapping[str, Scenario], seed: int) -> list[Scenario]:
    """Choose one scenario of each pool by the seed, in an order that the seed decides too."""
    pools: dict[str, list[Scenario]] = {}
    for scenario in scenarios.values():
        if scenario.pool is not None:
            pools.setdefault(scenario.pool, []).append(scenario)
    chance = random.Random(seed)
    chosen = [chance.choice(pool) for _, pool in sorted(pools.items())]
    chance.shuffle(chosen)
    return chosen


def _scenario(name: str, entry: Mapping[str, Any]) -> Scenario:
    if unknown := set(entry) - _FIELDS:
        raise ValueError(f"{name}: unknown field {', '.join(sorted(unknown))}")
    return Scenario(
        name=name,
        rows=tuple(entry["rows"]),
        claim=entry["claim"],
        budget=float(entry["budget"]),
        pool=entry.get("pool"),
        expect=entry.get("expect"),
        pace=float(entry.get("pace", _PACE)),
        faults=tuple(_fault(name, fault) for fault in entry["faults"]),
    )


def _fault(name: str, entry: Mapping[str, Any]) -> Fault:
    kinds: Sequence[str] = [kind for kind in entry if kind in INJECTIONS]
    if len(kinds) != 1:
        raise ValueError(f"{name}: a fault has one of {', '.join(INJECTIONS)}; this one has {', '.join(entry)}")
    arguments = {key.replace("-", "_"): value for key, value in entry.items() if key != kinds[0]}
    try:
        return INJECTIONS[kinds[0]](entry[kinds[0]], **arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
