"""What inventories promise of each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# They hold nothing that must outlive them and take no part in consensus: an environment may have fewer of them.
STATELESS = {"edge", "api", "callback", "worker", "relay", "consumer"}


def tiers(environment: str) -> dict[str, int]:
    """Return how many hosts each tier of an environment has."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "inventories" / environment / "hosts.yml").read_text())["all"][
        "children"
    ]
    return {tier: len(group["hosts"] or {}) for tier, group in found.items()}


def test_performance_has_the_ratios_of_production() -> None:
    production, performance = tiers("prod"), tiers("performance")
    # Production has the real external systems in place of the simulator.
    ratios = {tier: performance[tier] / count for tier, count in production.items() if count}

    assert set(ratios.values()) == {1.0}


def test_performance_gives_every_host_the_share_of_itself_that_production_gives() -> None:
    """Units, brokers and databases are set by the same files, and memory is a share: smaller machines stay in proportion."""
    production, performance = (ROOT / "inventories" / name / "group_vars" for name in ("prod", "performance"))
    files = {
        file.relative_to(production): file.resolve()
        for folder in production.iterdir()
        if folder.name not in {"all", "admin"}
        for file in folder.iterdir()
    }
    assert len(files) > len(STATELESS)
    assert {name: (performance / name).resolve() for name in files} == files
    variables = [yaml.safe_load((folder / "all/environment.yml").read_text()) for folder in (production, performance)]
    for name in ("cpq_redis_max_memory", "cpq_postgresql_memory"):
        assert {each[name] for each in variables} == {variables[0][name]}
        assert variables[0][name].endswith("%")


def test_performance_alone_has_slow_and_failing_external_systems() -> None:
    behaviours = {
        folder.name: yaml.safe_load((folder / "group_vars/all/environment.yml").read_text())["cpq_simulator_behaviours"]
        for folder in (ROOT / "inventories").iterdir()
        if (folder / "group_vars").is_dir()
    }

    assert {name for name, text in behaviours.items() if text} == {"performance"}
    assert {"latency", "error_share"} == {
        entry.partition("=")[0].rpartition(".")[2] for entry in behaviours["performance"].split(",")
    }


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_a_full_topology_outlives_any_one_host(environment: str) -> None:
    least = dict.fromkeys(STATELESS, 2) | {"db": 2, "witness": 1, "kafka": 3, "zeebe": 3, "redis": 1, "admin": 1}
    found = tiers(environment)

    assert {tier: found[tier] for tier in least if found[tier] < least[tier]} == {}


@pytest.mark.parametrize("environment", ["integration", "dr"])
def test_what_holds_state_has_the_shape_of_production(environment: str) -> None:
    production, found = tiers("prod"), tiers(environment)
    stateful = set(production) - STATELESS - {"simulator"}

    assert {tier: found[tier] for tier in stateful} == {tier: production[tier] for tier in stateful}
    assert all(found[tier] for tier in STATELESS)


def test_who_may_sign_is_named_where_real_external_systems_are_and_the_machine_itself_elsewhere() -> None:
    found = {
        folder.name: yaml.safe_load((folder / "group_vars/all/release.yml").read_text())
        for folder in (ROOT / "inventories").iterdir()
        if (folder / "group_vars/all").is_dir()
    }
    named = {name for name, variables in found.items() if "'ssh-ed25519 " in variables["release_signers"]}
    itself = {name for name, variables in found.items() if "release_signing_key" in variables["release_signers"]}

    assert named == {name for name, variables in found.items() if not variables["release_simulator"]}
    assert itself == set(found) - named
