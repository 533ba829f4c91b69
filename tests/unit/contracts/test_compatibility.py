"""Each rule of compatibility is broken once; what may change is changed once, too."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.contracts import compatibility, loader
from app.contracts.compatibility import Published
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session

SCHEMA: dict[str, Any] = {
    "$id": "urn:cpq-oms:events:parcel.v1",
    "title": "Parcel event",
    "type": "object",
    "required": ["eventId", "state"],
    "properties": {
        "eventId": {"type": "string", "format": "uuid"},
        "eventType": {"enum": ["ParcelSent"], "x-open": True},
        "state": {"enum": ["sent", "lost"]},
        "weight": {"type": ["integer", "null"], "minimum": 1},
        "address": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}, "street": {"type": "string"}},
        },
        "stops": {"type": "array", "items": {"type": "object", "properties": {"place": {"type": "string"}}}},
    },
}
TOPIC = {"schema": "parcel.v1.schema.json", "partition_key": "parcelId", "partitions": 6, "compatibility": "backward"}
Change = Callable[[dict[str, Any]], object]


def published(schema: dict[str, Any] | None = None, topic: dict[str, Any] | None = None) -> Published:
    return Published({"oms.parcel.events.v1.yml": topic or TOPIC}, {"parcel.v1.schema.json": schema or SCHEMA})


def after(change: Change) -> list[str]:
    schema = copy.deepcopy(SCHEMA)
    change(schema)
    return list(compatibility.problems(published(), published(schema)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s["properties"].pop("weight"), "weight: is gone or has another name"),
        (lambda s: s["properties"].update(mass=s["properties"].pop("weight")), "weight: is gone or has another name"),
        (lambda s: s["properties"]["address"]["properties"].pop("street"), "address.street: is gone"),
        (lambda s: s["properties"]["stops"]["items"]["properties"].pop("place"), "stops[].place: is gone"),
        (lambda s: s["required"].append("weight"), "weight: is required now"),
        (lambda s: s["properties"]["address"]["required"].append("street"), "address.street: is required now"),
        (lambda s: s["required"].remove("state"), "state: is no longer required"),
        (lambda s: s["properties"]["weight"].update(type="integer"), "weight: type: no longer null"),
        (lambda s: s["properties"]["eventId"].update(type=["string", "null"]), "eventId: type: also null"),
        (
            lambda s: s["properties"]["weight"].update(type=["string", "null"]),
            "weight: type: was integer, null, is null, s",
        ),
        (lambda s: s["properties"]["weight"].pop("type"), "weight: type: no longer integer, null"),
        (lambda s: s["properties"]["state"]["enum"].remove("lost"), "state: enum: no longer lost"),
        (lambda s: s["properties"]["state"]["enum"].append("found"), "state: enum: also found"),
        (lambda s: s["properties"]["eventId"].update(enum=["1"]), "eventId: enum: is new"),
        (lambda s: s["properties"]["state"].pop("enum"), "state: enum: is gone"),
        (lambda s: s["properties"]["eventType"].pop("x-open"), "eventType: x-open: is gone"),
        (lambda s: s["properties"]["weight"].update(minimum=2), "weight: minimum: was 1, is 2"),
        (lambda s: s["properties"]["weight"].pop("minimum"), "weight: minimum: was 1, is None"),
        (lambda s: s["properties"]["eventId"].update(pattern="^a"), "eventId: pattern: was None, is ^a"),
        (lambda s: s["properties"]["stops"].pop("items"), "stops: items: was"),
        (lambda s: s.update(additionalProperties=False), "the event: additionalProperties: was None, is False"),
        (lambda s: s.update({"$id": "urn:other"}), "the event: $id: was"),
        (lambda s: s.update(patternProperties={"^x": {}}), "the event: patternProperties: was None"),
    ],
)
def test_a_change_that_somebody_could_not_live_with_is_named(change: Change, problem: str) -> None:
    [line] = after(change)

    assert line.startswith(f"events/parcel.v1.schema.json: {problem}")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda s: s["properties"].update(colour={"type": "string"}),
        lambda s: s["properties"]["address"]["properties"].update(country={"type": "string"}),
        lambda s: s["properties"]["eventType"]["enum"].append("ParcelFound"),
        lambda s: s["properties"]["state"].update({"x-open": True}),
        lambda s: s.update(title="Parcel event, version 1", description="Said in other words."),
        lambda s: s["required"].reverse(),
    ],
)
def test_what_only_grows_or_says_the_same_is_allowed(change: Change) -> None:
    assert after(change) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"partition_key": "customerId"}, "partition_key: was parcelId, is customerId"),
        ({"schema": "parcel.v2.schema.json"}, "schema: was parcel.v1.schema.json"),
        ({"compatibility": "none"}, "compatibility: was backward, is none"),
        ({"partitions": 5}, "partitions: were 6, are 5"),
    ],
)
def test_a_topic_that_became_another_is_named(change: dict[str, Any], problem: str) -> None:
    [line] = compatibility.problems(published(), published(topic=TOPIC | change))

    assert line.startswith(f"topics/oms.parcel.events.v1.yml: {problem}")


def test_a_topic_or_schema_that_is_gone_is_named_and_a_new_one_is_not() -> None:
    nothing = Published({}, {})

    assert [line.split(";")[0] for line in compatibility.problems(published(), nothing)] == [
        "topics/oms.parcel.events.v1.yml: is gone",
        "events/parcel.v1.schema.json: is gone",
    ]
    assert list(compatibility.problems(nothing, published())) == []


def test_a_topic_without_promise_may_change_and_go() -> None:
    loose = published(topic=TOPIC | {"compatibility": "none"})

    assert list(compatibility.problems(loose, Published({}, loose.schemas))) == []


@pytest.mark.parametrize(
    ("release_id", "other", "earlier"),
    [
        ("cpq-oms-2026.11.22-002", "cpq-oms-2026.11.22-010", True),
        ("cpq-oms-2026.11.22-999", "cpq-oms-2026.11.23-001", True),
        ("cpq-oms-2026.11.22-010", "cpq-oms-2026.11.22-002", False),
        ("cpq-oms-2026.11.22-002", "cpq-oms-2026.11.22-002-d12345678", False),
        ("unreleased", "cpq-oms-2026.11.22-002", False),
    ],
)
def test_the_order_of_releases_is_that_of_their_ids(release_id: str, other: str, *, earlier: bool) -> None:
    assert compatibility.is_earlier(release_id, other) is earlier


def test_the_schemas_of_this_repository_are_compatible_with_themselves() -> None:
    mine = compatibility.read(loader.DIRECTORY)

    assert list(compatibility.problems(mine, mine)) == []


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    copied = tmp_path / "contracts"
    shutil.copytree(loader.DIRECTORY, copied, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return copied


def add_field(contracts: Path) -> None:
    path = contracts / "events" / "order.v1.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["salesChannel"] = {"type": "string"}
    path.write_text(json.dumps(schema))


def judge(release_id: str, installed_id: str, contracts: Path) -> Outcome:
    files = {
        "topics": {path.name: path.read_text() for path in (contracts / "topics").iterdir()},
        "events": {path.name: path.read_text() for path in (contracts / "events").iterdir()},
    }
    document = {"release_id": release_id, "installed": {installed_id: files}}
    return dispatch.run(["topics", "compatibility"], Session({}, "tests", document))


def test_the_command_compares_two_folders_and_needs_no_settings(previous: Path) -> None:
    words = ["topics", "compatibility", "--previous", str(previous)]
    assert dispatch.run(words, Session({}, "tests")).exit_code == 0

    add_field(previous)

    outcome = dispatch.run(words, Session({}, "tests"))
    assert outcome.exit_code == 1
    assert outcome.problems[0].startswith("events/order.v1.schema.json: salesChannel: is gone")


def test_a_release_that_goes_back_is_judged_by_the_one_it_leaves(previous: Path) -> None:
    add_field(previous)

    forward = judge("cpq-oms-2026.11.22-010", "cpq-oms-2026.11.22-009", previous)
    back = judge("cpq-oms-2026.11.22-010", "cpq-oms-2026.11.22-011", previous)

    assert forward.exit_code == 1
    assert forward.problems[0].startswith("beside cpq-oms-2026.11.22-009: events/order.v1.schema.json: salesChannel")
    assert back.exit_code == 0


def test_a_first_release_has_nothing_to_be_compared_with() -> None:
    document = {"release_id": "cpq-oms-2026.11.22-001", "installed": {}}

    assert dispatch.run(["topics", "compatibility"], Session({}, "tests", document)).exit_code == 0


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"release_id": "cpq-oms-2026.11.22-001"},
        {"release_id": "cpq-oms-2026.11.22-001", "installed": {"x": {"topics": {"a.yml": "["}, "events": {}}}},
    ],
)
def test_an_input_that_cannot_be_read_is_refused(document: object) -> None:
    outcome = dispatch.run(["topics", "compatibility"], Session({}, "tests", document))

    assert outcome.exit_code == 1
    assert "contracts cannot be read" in outcome.problems[0]


def test_a_folder_without_contracts_is_refused(tmp_path: Path) -> None:
    outcome = dispatch.run(["topics", "compatibility", "--current", str(tmp_path)], Session({}, "tests"))

    assert outcome.exit_code == 1
    assert "has no *.yml" in outcome.problems[0]
