"""`release plan` as release.yml and a person call it, on bundles of this checkout's own contracts."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.contracts.loader import load_units
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.outcome import Outcome, show
from app.entrypoints.admin.wiring import Session
from tests.support.laid_open import NEW, OLD, add_event_field, laid_open, make_bundle

PLAN = ["release", "plan", "--bundle"]


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "previous", OLD)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", NEW)


def environment(of: Path, **about: Any) -> dict[str, Any]:
    """What release.yml says of an environment that has a bundle."""
    return {"installed": {OLD: laid_open(of)}, "units": {unit: [OLD] for unit in load_units()}, **about}


def run(bundle: Path, document: Any = None, *words: str) -> Outcome:
    return dispatch.run([*PLAN, str(bundle), *words], Session({}, "erika", document))


def kinds(outcome: Outcome) -> set[tuple[str, str]]:
    return {(change["kind"], change["name"]) for change in outcome.data["changes"] if change["kind"] != "unit"}


def test_two_bundles_are_planned_without_an_environment(bundle: Path, previous: Path) -> None:
    add_event_field(bundle)
    (bundle / "migrations/0099_expand_channel.sql").write_text("-- depends: 0024_expand_history_indexes\n")

    outcome = run(bundle, None, "--previous", str(previous))

    assert outcome.exit_code == 3
    assert kinds(outcome) == {("event", "order.v1.schema.json salesChannel"), ("expand", "0099_expand_channel")}
    assert outcome.data["readers_first"]
    assert outcome.data["verdict"]["way"] == "possible"
    assert outcome.data["template"]["owner"] == "erika"


def test_the_same_bundle_as_is_live_is_no_difference(previous: Path) -> None:
    outcome = run(previous, None, "--previous", str(previous))

    assert (outcome.exit_code, list(outcome.changes), list(outcome.problems)) == (0, [], [])


def test_an_environment_is_planned_from_what_release_yml_says_of_it(bundle: Path, previous: Path) -> None:
    add_event_field(bundle)
    live = {"deployed": {}, "migrations": {}, "reached": [], "workers": [], "job_types": [], "ignored": 1}
    hosts = {"api": ["api-1", "api-2"], "consumer": ["consumer-1"], "admin": ["admin-1"], "all": ["admin-1", "api-1"]}

    outcome = run(bundle, environment(previous, live=live, hosts=hosts, differs=["api-2"], window="Sunday"))

    steps = {step["step"]: step for step in outcome.data["steps"]}
    assert steps["api"]["hosts"] == ("api-2",)
    assert not steps["consumers-first"]["acts"]
    assert ("process", "order-fulfillment-v1") in kinds(outcome)
    assert ("expand", "0001_expand_tenancy") in kinds(outcome)
    assert outcome.data["runbook"]["Window"] == ("Sunday",)


def test_an_environment_that_could_not_be_asked_is_planned_by_its_releases(bundle: Path, previous: Path) -> None:
    outcome = run(bundle, environment(previous))

    assert (outcome.exit_code, kinds(outcome)) == (3, set())


def test_a_refusal_fails_by_its_rule_and_says_what_helps(bundle: Path, previous: Path) -> None:
    (bundle / "contracts/release_path.yml").write_text("generation: 3\n")

    outcome = run(bundle, None, "--previous", str(previous))

    assert outcome.exit_code == 1
    what = f"{OLD} is of generation 1, the bundle of generation 3"
    assert list(outcome.problems) == [f"release-path: {what}. Release a bundle of generation 2 on every host first"]
    assert "remedy: Release a bundle of generation 2 on every host first" in outcome.report


def test_the_plan_is_printed_as_text_and_as_json(bundle: Path, previous: Path) -> None:
    add_event_field(bundle)
    outcome = run(bundle, None, "--previous", str(previous))
    text, document = io.StringIO(), io.StringIO()

    show(outcome, as_json=False, output=text)
    show(outcome, as_json=True, output=document)

    assert text.getvalue() == outcome.report
    lines = outcome.report.splitlines()
    headings = [line for line, under in itertools.pairwise(lines) if under and set(under) == {"-"}]
    assert headings == [
        "Changes",
        "Compatibility",
        "Steps",
        "Refused: nothing",
        "Way back: possible",
        "Rollback plan",
        "Runbook",
    ]
    assert (
        "Consumers that take an event with and without what is new come before anybody who writes it. (14.4)"
        in outcome.report
    )
    assert json.loads(document.getvalue())["data"] == json.loads(json.dumps(outcome.data, default=str))


def test_a_bundle_of_before_it_carried_migrations_and_declarations_is_planned_by_what_it_has(
    bundle: Path, previous: Path
) -> None:
    for folder in (bundle, previous):
        shutil.rmtree(folder / "migrations")
        for name in ("redis_keys.yml", "feature_flags.yml", "release_path.yml"):
            (folder / "contracts" / name).unlink()

    outcome = run(bundle, None, "--previous", str(previous))

    assert (outcome.exit_code, kinds(outcome)) == (3, set())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "the input: Input should be"),
        ({}, "installed: Field required"),
        ({"installed": {}, "unit": {}}, "unit: Extra inputs are not permitted"),
        ({"installed": {}, "live": {"reached": 7}}, "live.reached: Input should be a valid tuple"),
        ({"installed": {OLD: {"topics": {"a.yml": "name: a"}}}}, f"{OLD}: there is no events/*.schema.json"),
        ({"installed": {OLD: {"topics": {"a.yml": "- a"}, "events": {"a": "{}"}}}}, "a.yml: is no mapping"),
    ],
)
def test_a_malformed_input_is_refused_by_its_field(bundle: Path, document: Any, problem: str) -> None:
    outcome = run(bundle, document)

    assert outcome.exit_code == 1
    [said] = outcome.problems
    assert said.startswith("a plan cannot be made: ")
    assert problem in said


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    outcome = run(tmp_path, {"installed": {}})

    assert outcome.exit_code == 1
    assert str(tmp_path / "manifest.json") in outcome.problems[0]


def test_a_migration_without_number_and_phase_is_refused(bundle: Path, previous: Path) -> None:
    (bundle / "migrations/0099_channel.sql").write_text("")

    outcome = run(bundle, None, "--previous", str(previous))

    assert outcome.exit_code == 1
    assert "migrations/0099_channel.sql: expected NNNN_<expand|backfill|contract>_<words>.sql" in outcome.problems[0]
