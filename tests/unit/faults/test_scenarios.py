"""The scenarios are data: what is in the file can be run, and a seed always chooses the same of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scenarios import choose, load_scenarios


def test_every_scenario_has_a_claim_and_a_budget_and_names_only_known_faults() -> None:
    scenarios = load_scenarios()

    assert len(scenarios) >= 20
    assert all(scenario.claim.endswith(".") and scenario.budget > 0 for scenario in scenarios.values())


def test_a_seed_chooses_one_of_each_pool_and_always_the_same() -> None:
    scenarios = load_scenarios()
    pools = {scenario.pool for scenario in scenarios.values() if scenario.pool}

    chosen = choose(scenarios, 7)

    assert {scenario.pool for scenario in chosen} == pools
    assert len(chosen) == len(pools)
    assert chosen == choose(scenarios, 7)
    assert any(choose(scenarios, seed) != chosen for seed in range(20))


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("{explode: api}", "one: a fault has one of"),
        ("{kill: api, at: before-commit}", "one: .*of"),
        ("{crash: api, colour: red}", "one: .*colour"),
    ],
)
def test_a_wrong_fault_is_refused_by_its_scenario(tmp_path: Path, fault: str, problem: str) -> None:
    path = tmp_path / "scenarios.yml"
    path.write_text(f"one: {{rows: [], claim: x, budget: 1, faults: [{fault}]}}\n")

    with pytest.raises(ValueError, match=problem):
        load_scenarios(path)
