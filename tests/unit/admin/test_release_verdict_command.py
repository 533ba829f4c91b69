"""`release verdict` as rollback.yml calls it: its input, what it prints and fails with, and the page of spec 15.3."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from app.application.release_plan.model import Answer, Way
from app.application.release_plan.way_back import WayBack, way_back
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.commands.release.verdict import outcome
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.plan_input import Rollback, read_rollback
from app.entrypoints.admin.wiring import Session
from tests.support.releases import MIGRATIONS, NEW, OLD, UNITS, Documents, documents, live

ORDERS = ("019ad0c4-0000-7000-8000-000000000001", "019ad0c4-0000-7000-8000-000000000002")


def job_type(made: Documents) -> None:
    made["job_types"]["job_types.yml"]["job_types"]["notify"] = {"group": "fulfillment"}


def api_item(made: Documents) -> None:
    paths = made["openapi"]["openapi.yml"]["paths"]
    paths["/v1/items"] = {"get": paths["/v1/orders"]["get"]}


def texts(made: Documents) -> dict[str, dict[str, str]]:
    return {part: {name: json.dumps(text) for name, text in files.items()} for part, files in made.items()}


def given(*alterations: Any, attested: str = "") -> dict[str, Any]:
    """What rollback.yml gives: hosts with a release that was altered, and the one before it."""
    running = documents()
    for alter in alterations:
        alter(running)
    names = [each.name for each in MIGRATIONS]
    return {
        "installed": {NEW: texts(running)},
        "units": {unit: [NEW] for unit in UNITS},
        "former": {"release_id": OLD, "units": [*UNITS], "files": texts(documents()), "migrations": names},
        "attested": attested,
        "of a later release": 1,
    }


def asked(document: dict[str, Any]) -> tuple[Rollback, WayBack]:
    read = read_rollback(document, "erika")
    return read, way_back(read.former, read.around.installed, MIGRATIONS, live(), read.around)


def said(document: dict[str, Any], answer: Answer) -> Outcome:
    read, found = asked(document)
    return outcome(read, found, dict.fromkeys(found.questions, answer))


def test_a_way_back_is_no_failure_and_says_what_it_stands_on() -> None:
    made = said(given(job_type), Answer(0))

    assert (made.exit_code, list(made.problems)) == (0, [])
    assert (made.data["former"], made.data["running"], made.data["way"]) == (OLD, NEW, Way.POSSIBLE)
    assert "orders with such a step that is not settled: none" in made.report
    assert made.data["template"]["rollback possible"] == "yes"
    assert made.data["template"]["bpmn changed"] == "notify"
    assert made.data["template"]["rollback steps"].startswith(f"release the bundle of {OLD}: ")


def test_a_refusal_names_grounds_with_counts_and_ids_and_the_way_forward() -> None:
    made = said(given(job_type), Answer(2, ORDERS))

    ground = f"{OLD} does not know the job types notify: their calls and callbacks stay open (2: {', '.join(ORDERS)})"
    assert made.exit_code == 1
    assert list(made.problems) == [f"there is no way back to {OLD}", ground]
    assert f"2: {', '.join(ORDERS)}" in made.report
    template = made.data["template"]
    assert template["rollback possible"] == "no"
    assert template["rollback steps"] == "none: see the grounds"
    assert template["roll-forward steps"].startswith(f"build a bundle that is later than {NEW}")
    assert "it must serve notify" in template["roll-forward steps"]


@pytest.mark.parametrize(("attested", "code"), [("", 1), ("  ", 1), ("no client uses it, erika", 0)])
def test_what_cannot_be_known_fails_until_somebody_answers_for_it(attested: str, code: int) -> None:
    made = said(given(api_item, attested=attested), Answer(0))

    assert made.exit_code == code
    assert "cannot be known from data" in made.report
    assert ("attested: no client uses it, erika" in made.report) is (code == 0)


def test_the_release_that_mends_is_later_than_every_one_that_is_installed() -> None:
    document = given(job_type)
    latest = "cpq-oms-2026.11.29-107"
    document["installed"][latest] = copy.deepcopy(document["installed"][NEW])

    made = said(document, Answer(1, ORDERS[:1]))

    assert made.data["running"] == latest
    assert f"later than {latest}" in made.data["roll_forward"][0]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "installed: Field required"),
        ({**given(), "installed": {}}, "installed: Dictionary should have at least 1 item"),
        ({"installed": given()["installed"]}, "former: Field required"),
        ({**given(), "former": {"release_id": OLD, "units": [], "files": {}}}, f"{OLD}: there is no topics"),
        (
            {**given(), "installed": {"cpq-oms-2026.11.27-001": given()["installed"][NEW]}},
            f"{OLD} was not made before cpq-oms-2026.11.27-001, which is installed: use release.yml",
        ),
        (
            {**given(), "former": {**given()["former"], "migrations": ["one"]}},
            "migrations/one.sql: expected NNNN_<expand|backfill|contract>_<words>.sql",
        ),
    ],
)
def test_a_malformed_input_is_refused_by_its_field(document: Any, problem: str) -> None:
    made = dispatch.run(["release", "verdict"], Session({}, "erika", document))

    assert made.exit_code == 1
    assert problem in made.problems[0]
