"""Role tests give units what those need: a setting that is new is missed here, before any host is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, dict[str, dict[str, Any]]] = json.loads((ROOT / "app/contracts/settings.json").read_text())
SCENARIOS = sorted(
    path
    for path in (ROOT / "roles").glob("*/molecule/**/*.yml")
    if not path.is_symlink() and "APP_INSTANCE_ID:" in path.read_text()
)
PREFIX = "app_service_scenario_"


def units(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each unit that a scenario describes: below `app_service_units`, or in a variable named after it."""
    if isinstance(document, list):
        for one in document:
            yield from units(one)
    elif isinstance(document, dict):
        for key, value in document.items():
            if key == "app_service_units":
                yield from ((unit, about) for unit, about in value.items() if isinstance(about, dict))
            elif key.startswith(PREFIX):
                yield key.removeprefix(PREFIX), value
            else:
                yield from units(value)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.relative_to(ROOT / "roles")))
def test_a_scenario_gives_each_unit_what_it_cannot_start_without(path: Path) -> None:
    found = list(units(yaml.safe_load(path.read_text())))

    assert found
    for unit, about in found:
        needed = {name for name, setting in SETTINGS[unit].items() if setting["required"]}
        for instance in (about.get("instances") or {"": {}}).values():
            given = {*about["environment"], *about["credentials"], *instance.get("environment", {})}
            assert needed - given == set(), unit
