"""Settings are held to what an inventory gives, versions of variables to what instances carry."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.contracts.compatibility import settings, variables
from app.contracts.compatibility.finding import Level
from app.contracts.loader import DIRECTORY

API: dict[str, Any] = {
    "API_WORKERS": {
        "kind": "whole number",
        "category": "policy",
        "changes": "release",
        "required": True,
        "minimum": 1,
        "maximum": 64,
    },
    "LOG_LEVEL": {
        "kind": "one of several",
        "category": "policy",
        "changes": "at run time",
        "required": True,
        "choices": ["DEBUG", "INFO"],
    },
}
NEW = API["API_WORKERS"]
Change = Callable[[dict[str, Any]], object]


def levels(change: Change, given: set[str] | None = None) -> list[tuple[str, Level]]:
    changed = copy.deepcopy(API)
    change(changed)
    names = None if given is None else {"api": given}
    return [(each.at, each.level) for each in settings.compare({"api": API}, {"api": changed}, names)]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("API_WORKERS"),
        lambda s: s["API_WORKERS"].update(kind="text"),
        lambda s: s["API_WORKERS"].update(category="security"),
        lambda s: s["API_WORKERS"].update(minimum=2),
        lambda s: s["API_WORKERS"].update(maximum=63),
    ],
)
def test_a_setting_that_takes_less_or_is_another_breaks(change: Change) -> None:
    assert levels(change) == [("api/API_WORKERS", Level.BREAKING)]


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (lambda s: s["LOG_LEVEL"]["choices"].remove("DEBUG"), Level.BREAKING),
        (lambda s: s["LOG_LEVEL"].update(changes="release"), Level.BREAKING),
        (lambda s: s["LOG_LEVEL"]["choices"].append("ERROR"), Level.COMPATIBLE),
        (lambda s: s["LOG_LEVEL"].update(required=False), None),
    ],
)
def test_choices_and_change_rules_only_widen(change: Change, level: Level | None) -> None:
    assert levels(change) == ([("api/LOG_LEVEL", level)] if level else [])


def test_what_is_new_or_gone_is_well_where_the_inventory_says_so_already() -> None:
    def add(changed: dict[str, Any]) -> None:
        changed["API_HOSTS"] = NEW

    def take(changed: dict[str, Any]) -> None:
        del changed["API_WORKERS"]

    assert levels(add) == [("api/API_HOSTS", Level.BREAKING)]
    assert levels(add, {"API_WORKERS", "LOG_LEVEL"}) == [("api/API_HOSTS", Level.BREAKING)]
    assert levels(add, {"API_HOSTS"}) == [("api/API_HOSTS", Level.COMPATIBLE)]
    assert levels(take, {"API_WORKERS"}) == [("api/API_WORKERS", Level.BREAKING)]
    assert levels(take, {"LOG_LEVEL"}) == [("api/API_WORKERS", Level.COMPATIBLE)]
    assert levels(lambda s: s.update(API_HOSTS=NEW | {"required": False}), set()) == [
        ("api/API_HOSTS", Level.COMPATIBLE)
    ]


def test_units_that_an_inventory_does_not_have_are_not_asked_about() -> None:
    assert list(settings.compare({"console": API}, {"console": {}}, {"api": []})) == []


def test_a_version_of_variables_never_changes() -> None:
    name = "order-fulfillment.v1.schema.json"
    schema = json.loads((DIRECTORY / "variables" / name).read_text())

    def compared(change: Change) -> list[tuple[str, Level]]:
        changed = copy.deepcopy(schema)
        change(changed)
        return [(each.at, each.level) for each in variables.compare({name: schema}, {name: changed})]

    assert compared(lambda s: s.update(title="In other words")) == []
    assert compared(lambda s: s["required"].reverse()) == []
    assert compared(lambda s: s["properties"].pop("orderHash")) == [(f"{name}: /properties/orderHash", Level.BREAKING)]
    assert compared(lambda s: s["properties"].update(x={})) == [(f"{name}: /properties/x", Level.BREAKING)]
    assert compared(lambda s: s["required"].pop()) == [(f"{name}: /required", Level.BREAKING)]


def test_a_version_of_variables_goes_only_beside_a_later_one() -> None:
    first: variables.Schemas = {"order.v1.schema.json": {}}
    second: variables.Schemas = {"order.v2.schema.json": {}}

    assert [each.level for each in variables.compare({**first, **second}, second)] == [Level.READERS]
    assert [each.level for each in variables.compare({**first, **second}, first)] == [Level.BREAKING]
    assert [each.level for each in variables.compare(first, {**first, **second})] == [Level.COMPATIBLE]
