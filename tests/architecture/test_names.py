"""One word in five places, and rules for roles, playbooks and units that keep the layout explaining itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contracts.loader import environment_problems

ROOT = Path(__file__).resolve().parents[2]
UNITS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "app/contracts/units.yml").read_text())["units"]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
INVENTORIES = sorted(path.parent for path in (ROOT / "inventories").glob("*/hosts.yml"))


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_one_word_names_package_unit_settings_lock_and_host_group(unit: str) -> None:
    service = UNITS[unit]["service"]
    groups = set(yaml.safe_load((ROOT / "inventories/local/hosts.yml").read_text())["all"]["children"])

    assert (ROOT / "app/entrypoints" / unit / "__main__.py").is_file()
    assert (ROOT / "app/settings" / f"{unit}.py").is_file()
    assert (ROOT / "systemd" / service).is_file()
    assert (ROOT / ".config/locks" / f"{unit}.txt").is_file()
    assert service in {f"cpq-oms-{unit}.service", f"cpq-oms-{unit}@.service"}
    assert unit in groups


@pytest.mark.parametrize(
    "inventory", [*INVENTORIES, *sorted((ROOT / "tests/support/inventories").iterdir())], ids=lambda path: path.name
)
def test_an_inventory_is_of_the_kind_that_its_name_says(inventory: Path) -> None:
    variables: dict[str, Any] = {}
    for path in (inventory / "group_vars/all").glob("*.yml"):
        if path.name != "vault.yml":
            variables |= yaml.safe_load(path.read_text())

    assert environment_problems(variables["cpq_env"], variables["cpq_external_environment"]) == []


def argument_names(role: str) -> set[str]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
    return set(specs["argument_specs"]["main"].get("options", {}))


def default_names(role: str) -> set[str]:
    """Return the keys of defaults/main.yml, commented-out inputs without a safe default included."""
    text = (ROOT / "roles" / role / "defaults/main.yml").read_text()
    return set(re.findall(rf"^(?:# )?({role}_\w+):", text, re.MULTILINE))


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_defaults_and_argument_specs_have_the_same_keys(role: str) -> None:
    assert default_names(role) == argument_names(role)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_a_readme_and_both_molecule_scenarios(role: str) -> None:
    assert (ROOT / "roles" / role / "README.md").is_file()
    for scenario in ("default", "alternative"):
        assert (ROOT / "roles" / role / "molecule" / scenario / "molecule.yml").is_file(), scenario


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_no_inventory_group(role: str) -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("tasks", "templates", "handlers", "defaults", "vars")
        for path in sorted((ROOT / "roles" / role / folder).rglob("*"))
        if path.is_file() and re.search(r"\bgroups\s*[\[.]|group_names", path.read_text())
    ]

    assert found == []


def test_playbooks_leave_commands_to_roles_and_modules() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "playbooks").rglob("*.yml"))
        if re.search(r"^\s+(- )?ansible\.builtin\.(command|shell|raw):", path.read_text(), re.MULTILINE)
    ]

    assert found == []


def test_units_are_static() -> None:
    found = [path.name for path in sorted((ROOT / "systemd").iterdir()) if re.search(r"\{\{|\{%", path.read_text())]

    assert found == []


def test_every_inventory_has_the_same_groups() -> None:
    groups = {
        inventory.name: set(yaml.safe_load((inventory / "hosts.yml").read_text())["all"]["children"])
        for inventory in INVENTORIES
    }

    assert len(set(map(frozenset, groups.values()))) == 1, groups
