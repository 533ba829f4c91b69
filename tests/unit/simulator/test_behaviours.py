"""What systems do from the simulator's start, as its settings say, and for which share of calls."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import TypeAdapter, ValidationError

from app.entrypoints.simulator.__main__ import problems, starting_behaviours
from app.entrypoints.simulator.behaviours import Behaviour, Behaviours, Mode
from app.settings.simulator import SimulatorSettings

FIELD = SimulatorSettings.model_fields["simulator_behaviours"]


def settings(text: str) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(FIELD.rebuild_annotation())
    return cast(
        "Any",
        SimpleNamespace(
            simulator_behaviours=adapter.validate_python(text), app_env="ci", external_environment="non-production"
        ),
    )


def test_a_system_starts_as_slow_and_as_often_refusing_as_it_is_set() -> None:
    behaviours = starting_behaviours(
        ["inventory", "billing"], settings("inventory.latency=PT0.25S,inventory.error_share=0.5")
    )

    assert behaviours.current() == {"inventory": Behaviour(latency=timedelta(seconds=0.25)), "billing": Behaviour()}
    [rule] = behaviours.rules("inventory")
    assert (rule.mode, rule.status, rule.share, rule.latency) == (Mode.ERROR, 503, 0.5, timedelta(seconds=0.25))
    assert behaviours.rules("billing") == ()


def test_a_share_of_calls_is_that_share() -> None:
    behaviours = Behaviours(["inventory"], random.Random(1).random)
    behaviours.add("inventory", Behaviour(mode=Mode.ERROR, share=0.1))

    modes = Counter(behaviours.take("inventory", "POST", "ci:a:b:c:1").mode for _ in range(5000))

    assert 400 < modes[Mode.ERROR] < 600


def test_a_behaviour_of_a_share_that_is_used_up_counts_only_the_calls_it_held_for() -> None:
    chances = iter([0.9, 0.0, 0.0])
    behaviours = Behaviours(["inventory"], lambda: next(chances))
    behaviours.add("inventory", Behaviour(mode=Mode.ERROR, share=0.5, remaining=1))

    assert [behaviours.take("inventory", "POST", "k").mode for _ in range(3)] == [Mode.OK, Mode.ERROR, Mode.OK]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inventory.latency=80ms", r"inventory.latency: expected an ISO 8601 duration"),
        ("inventory.error_share=2", r"inventory.error_share: Input should be less than or equal to 1"),
        ("inventory.speed=1", r"entry 1: expected one of latency, error_share after inventory"),
        ("inventory", r"entry 1: expected <system>.<field>=<value>"),
    ],
)
def test_a_wrong_behaviour_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(text)


def test_a_system_that_is_not_declared_is_named() -> None:
    assert problems(settings("warehouse.latency=PT1S")) == [
        "SIMULATOR_BEHAVIOURS: warehouse is no system of external_systems.yml"
    ]
    assert problems(settings("inventory.latency=PT1S")) == []
