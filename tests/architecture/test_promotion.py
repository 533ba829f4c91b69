"""The path of a release is the spec's, and everything that it names exists: environments, kinds of evidence, stages of the tests."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from app.contracts.loader import DIRECTORY, ContractError, load_promotion
from tests.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
PROMOTION = load_promotion()
# Spec 13, as it stands there: the path, and what each stage should produce.
PATH = "local -> dev -> integration -> performance/staging -> production"
EVIDENCE = (
    "build ID",
    "test results",
    "migration result",
    "contract compatibility result",
    "deployment manifest",
    "smoke test result",
    "approval record",
)


def test_the_stages_follow_each_other_as_in_the_spec() -> None:
    steps = [step.replace("production", "prod").split("/") for step in PATH.split(" -> ")]

    assert list(PROMOTION.stages) == [stage for step in steps for stage in step]
    assert all(PROMOTION.stages[stage].after == () for stage in steps[0])
    for before, after in pairwise(steps):
        assert {PROMOTION.stages[stage].after for stage in after} == {tuple(before)}


def test_every_stage_shows_what_the_spec_lists() -> None:
    assert tuple(source.spec for source in PROMOTION.kinds.values()) == EVIDENCE
    assert all(stage.valid.keys() == PROMOTION.kinds.keys() for stage in PROMOTION.stages.values())


def test_every_inventory_is_a_stage_or_is_said_to_be_none() -> None:
    environments = {
        yaml.safe_load(path.read_text())["cpq_env"]
        for path in ROOT.glob("inventories/*/group_vars/all/environment.yml")
    }

    assert environments == {*PROMOTION.stages, *PROMOTION.outside}
    assert not PROMOTION.stages.keys() & PROMOTION.outside.keys()


def test_production_alone_asks_for_a_rehearsal_of_itself() -> None:
    assert [name for name, stage in PROMOTION.stages.items() if stage.rehearsal] == ["prod"]


def test_every_stage_of_the_tests_has_passed_before_production() -> None:
    asked = {suite for name in PROMOTION.before("prod") for suite in PROMOTION.stages[name].tests}

    assert asked == {stage.name for stage in STAGES}


def test_all_inventories_keep_evidence_in_one_folder_that_is_no_environments() -> None:
    settings = [yaml.safe_load(path.read_text()) for path in ROOT.glob("inventories/*/group_vars/all/environment.yml")]

    [folder] = {each["cpq_evidence_dir"] for each in settings}
    owned = [each["cpq_state_dir"].replace("{{ cpq_env }}", each["cpq_env"]) for each in settings]
    assert not any(Path(folder).is_relative_to(each) for each in owned)


def test_who_approves_is_named_where_real_external_systems_are() -> None:
    for path in ROOT.glob("inventories/*/group_vars/all/release.yml"):
        variables = yaml.safe_load(path.read_text())
        named = variables["promotion_approvers"]

        assert (named == "{{ release_signers }}") is variables["release_simulator"], path
        # Who builds is not who approves.
        assert variables["release_simulator"] or not any(key in variables["release_signers"] for key in named)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("after: [dev]", "after: [staging]", "stages.integration.after: 'staging' is no stage before it"),
        ("after: [local]", "after: []", "stages.dev.after: empty, and it is not the first stage"),
        ("smoke: P14D, ", "", "stages.staging.valid.smoke: missing"),
        ("  smoke: {spec: smoke test result, document: release}\n", "", "kinds.smoke: missing"),
        ("rehearsal: P7D", "rehearsal: 7 days", "stages.prod.rehearsal"),
        ("tests: [faults]", "tests: []", "stages.performance.tests"),
        ("  contract: It", "  staging: It", "outside.staging: is a stage as well"),
        ("approval: P14D", "approval: P14D, mood: P14D", "stages.staging.valid.mood"),
    ],
)
def test_a_path_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (DIRECTORY / "promotion.yml").read_text()
    assert old in text
    (tmp_path / "promotion.yml").write_text(text.replace(old, new, 1))

    with pytest.raises(ContractError) as refused:
        load_promotion(tmp_path)

    assert f"promotion.yml: {problem}" in str(refused.value)
