"""The plan names what the runbook does: the plays of release.yml are the steps of release_steps.yml, in one order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contracts.loader import DIRECTORY, RELEASE_PLAYBOOK, ContractError, ReleaseStep, load_release_steps, load_units
from app.entrypoints.admin.canary_input import STEP

ROOT = Path(__file__).resolve().parents[2]
PLAYS: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
DECLARED = load_release_steps().steps
STEPS = [step for step in DECLARED if step.playbook == RELEASE_PLAYBOOK]
AFTER = [step for step in DECLARED if step.playbook != RELEASE_PLAYBOOK]
LOOKING = ("judge", "look", "interfaces")


def test_every_play_of_the_release_is_a_step_and_comes_where_the_plan_says() -> None:
    assert [(step.play, step.hosts) for step in STEPS] == [(play["name"], play["hosts"]) for play in PLAYS]


@pytest.mark.parametrize("step", AFTER, ids=lambda step: step.step)
def test_an_act_that_follows_the_release_is_the_one_play_of_its_playbook(step: ReleaseStep) -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks" / step.playbook).read_text())

    assert (play["name"], play["hosts"]) == (step.play, step.hosts)


def test_backfills_come_after_every_activation_and_contract_comes_last() -> None:
    names = [step.step for step in DECLARED]

    assert max(names.index(step.step) for step in DECLARED if step.units) < names.index("backfills")
    assert names[-1] == "contract"


def test_every_deployable_has_a_step_that_activates_it() -> None:
    activated = [unit for step in STEPS for unit in step.units]

    assert set(activated) == set(load_units())
    assert sorted(unit for unit in set(activated) if activated.count(unit) > 1) == ["api", "consumer"]


def test_the_plays_that_only_look_are_those_that_a_plan_runs() -> None:
    tagged = [play["name"] for play in PLAYS if "plan" in play.get("tags", ())]

    assert tagged == [step.play for step in STEPS if step.step in LOOKING]
    assert not [task for play in PLAYS for task in play["tasks"] if "plan" in task.get("tags", ())]


def test_consumers_are_activated_in_one_of_their_two_places() -> None:
    conditions = {
        step.readers_first: play["tasks"][0]["when"]
        for step, play in zip(STEPS, PLAYS, strict=True)
        if step.readers_first is not None
    }

    assert conditions == {
        True: "release_host_differs and release_readers_first",
        False: "release_host_differs and not release_readers_first",
    }


def test_the_api_is_activated_in_parts_of_its_hosts_or_as_one() -> None:
    found = {step.step: (step.part, play) for step, play in zip(STEPS, PLAYS, strict=True) if step.part is not None}

    assert [(name, part) for name, (part, _) in found.items()] == [
        ("api-canary", "canary"),
        ("canary", "canary"),
        ("api-standby", "standby"),
        ("api-switch", "standby"),
        ("api", "others"),
        ("api-former", "former"),
    ]
    assert [play["tasks"][0]["when"] for _, play in found.values()] == [
        "release_host_differs and inventory_hostname in release_canary.hosts",
        "release_canary.hosts | length > 0 and not ansible_check_mode",
        "release_host_differs and inventory_hostname in release_colours.standby",
        "release_colours.to | length > 0 and not ansible_check_mode",
        "release_host_differs and inventory_hostname not in release_parts.values() | flatten",
        "release_host_differs and inventory_hostname in release_colours.former",
    ]
    # The journal names it, and the judge looks there for when the canary began.
    assert found[STEP][1]["tasks"][0]["vars"] == {"release_api_step": STEP}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  flag:\n", "  banner:\n", "orders.banner.[key]"),
        ("steps: [workers, processes-and-flags]", "steps: [processes-and-flags, workers]", "come in another order"),
        ("steps: [install]", "steps: [instal]", "instal: no such step"),
        ("    runbook: 9\n", "    runbook: 11\n", "runbook: has no line 11"),
        ("  - step: relays\n", "  - step: consumers\n", "a step is there twice"),
        (
            "    hosts: api\n",
            "    playbook: other.yml\n    hosts: api\n",
            "one of release.yml comes after an act that follows the release",
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (DIRECTORY / "release_steps.yml").read_text()
    assert old in text
    (tmp_path / "release_steps.yml").write_text(text.replace(old, new, 1))

    with pytest.raises(ContractError) as refused:
        load_release_steps(tmp_path)

    assert problem in str(refused.value)


def test_a_kind_of_change_without_an_order_is_refused(tmp_path: Path) -> None:
    shutil.copy(DIRECTORY / "release_steps.yml", tmp_path)
    path = tmp_path / "release_steps.yml"
    path.write_text(path.read_text().replace('  unit: {spec: "24", steps: [install]}\n', ""))

    with pytest.raises(ContractError, match=r"orders: unit is missing"):
        load_release_steps(tmp_path)
