"""`contracts compare` as a release and a person call it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from app.contracts.compatibility import interfaces
from app.contracts.loader import DIRECTORY
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session

COMPARE = ["contracts", "compare"]


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    copied = tmp_path / "contracts"
    shutil.copytree(DIRECTORY, copied, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return copied


def add_field(contracts: Path) -> None:
    path = contracts / "events" / "order.v1.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["salesChannel"] = {"type": "string"}
    path.write_text(json.dumps(schema))


def add_operation(contracts: Path) -> None:
    path = contracts / "openapi.yml"
    document = yaml.safe_load(path.read_text())
    document["paths"]["/v1/orders/{order_id}/cancel"] = {"post": {"responses": {"200": {"description": "Gone."}}}}
    path.write_text(yaml.safe_dump(document))


def judge(release_id: str, installed_id: str, contracts: Path, given: dict[str, list[str]] | None = None) -> Outcome:
    files = {
        part: {path.name: path.read_text() for path in contracts.glob(glob)} for part, glob in interfaces.PARTS.items()
    }
    document = {"release_id": release_id, "installed": {installed_id: files}, "given": given}
    return dispatch.run(COMPARE, Session({}, "tests", document))


def test_two_folders_are_compared_and_need_no_settings(previous: Path) -> None:
    words = [*COMPARE, "--previous", str(previous)]
    same = dispatch.run(words, Session({}, "tests"))
    assert (same.exit_code, list(same.changes)) == (0, [])
    assert [check.verdict for check in same.checks] == ["passed"] * len(interfaces.PARTS)

    add_field(previous)
    add_operation(previous)

    outcome = dispatch.run(words, Session({}, "tests"))
    assert outcome.exit_code == 1
    assert [problem.removeprefix(f"beside {previous}: ").partition(";")[0] for problem in outcome.problems] == [
        "events/order.v1.schema.json: salesChannel: is gone or has another name",
        "openapi /paths/~1v1~1orders~1{order_id}~1cancel/post: is gone",
    ]
    assert {check.name.split()[0] for check in outcome.checks if check.verdict == "failed"} == {"events", "openapi"}
    assert [(one["interface"], one["level"]) for one in outcome.data["findings"]] == [
        ("events", "breaking"),
        ("openapi", "breaking"),
    ]


def test_a_release_that_goes_back_is_judged_by_the_one_it_leaves(previous: Path) -> None:
    add_field(previous)
    add_operation(previous)

    forward = judge("cpq-oms-2026.11.22-010", "cpq-oms-2026.11.22-009", previous)
    back = judge("cpq-oms-2026.11.22-010", "cpq-oms-2026.11.22-011", previous)

    assert forward.exit_code == 1
    assert forward.problems[0].startswith("beside cpq-oms-2026.11.22-009: events/order.v1.schema.json: salesChannel")
    assert back.exit_code == 0


@pytest.mark.parametrize("installed", ["cpq-oms-2026.11.22-009", "cpq-oms-2026.11.22-011"])
def test_settings_are_held_to_the_inventory_of_the_release_whichever_was_made_first(
    previous: Path, installed: str
) -> None:
    path = previous / "settings.json"
    settings = json.loads(path.read_text())
    del settings["api"]["API_WORKERS"]
    path.write_text(json.dumps(settings))

    lacking = judge("cpq-oms-2026.11.22-010", installed, previous, {"api": ["API_HOSTS"]})
    giving = judge("cpq-oms-2026.11.22-010", installed, previous, {"api": ["API_HOSTS", "API_WORKERS"]})

    assert lacking.problems == [
        f"beside {installed}: settings api/API_WORKERS: is new and has no default; an inventory must give it"
    ]
    assert giving.exit_code == 0


def test_a_release_of_before_without_an_interface_is_not_held_to_it(previous: Path) -> None:
    (previous / "settings.json").unlink()

    outcome = judge("cpq-oms-2026.11.22-010", "cpq-oms-2026.11.22-009", previous)

    assert outcome.exit_code == 0
    assert [check.verdict for check in outcome.checks if check.name.startswith("settings")] == ["inconclusive"]


def test_a_first_release_has_nothing_to_be_compared_with() -> None:
    document = {"release_id": "cpq-oms-2026.11.22-001", "installed": {}}

    assert dispatch.run(COMPARE, Session({}, "tests", document)).exit_code == 0


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"release_id": "cpq-oms-2026.11.22-001"},
        {
            "release_id": "cpq-oms-2026.11.22-001",
            "installed": {"x": {"topics": {"a.yml": "["}, "events": {"b.json": "{}"}}},
        },
        {"release_id": "cpq-oms-2026.11.22-001", "installed": {"x": "/nowhere"}},
    ],
)
def test_an_input_that_cannot_be_read_is_refused(document: object) -> None:
    outcome = dispatch.run(COMPARE, Session({}, "tests", document))

    assert outcome.exit_code == 1
    assert "contracts cannot be read" in outcome.problems[0]


def test_a_folder_without_contracts_is_refused(tmp_path: Path) -> None:
    outcome = dispatch.run([*COMPARE, "--current", str(tmp_path)], Session({}, "tests"))

    assert outcome.exit_code == 1
    assert f"{tmp_path}: there is no topics/*.yml" in outcome.problems[0]
