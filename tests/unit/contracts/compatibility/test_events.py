"""Each rule of compatibility is broken once; what may change is changed once, too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from app.contracts.compatibility import events
from app.contracts.compatibility.events import Published

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
    return list(events.problems(published(), published(schema)))


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
    ("change", "line"),
    [
        (lambda s: s["properties"].update(colour={"type": "string"}), "colour: is new"),
        (lambda s: s["properties"]["stops"]["items"]["properties"].update(at={}), "stops[].at: is new"),
        (lambda s: s["properties"]["eventType"]["enum"].append("ParcelFound"), "eventType: enum: also ParcelFound"),
    ],
)
def test_what_readers_meet_as_new_is_told(change: Change, line: str) -> None:
    schema = copy.deepcopy(SCHEMA)
    change(schema)

    assert list(events.additions(published(), published(schema))) == [f"events/parcel.v1.schema.json: {line}"]


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
    [line] = events.problems(published(), published(topic=TOPIC | change))

    assert line.startswith(f"topics/oms.parcel.events.v1.yml: {problem}")


def test_a_topic_or_schema_that_is_gone_is_named_and_a_new_one_is_not() -> None:
    nothing = Published({}, {})

    assert [line.split(";")[0] for line in events.problems(published(), nothing)] == [
        "topics/oms.parcel.events.v1.yml: is gone",
        "events/parcel.v1.schema.json: is gone",
    ]
    assert list(events.problems(nothing, published())) == []


def test_a_topic_without_promise_may_change_and_go() -> None:
    loose = published(topic=TOPIC | {"compatibility": "none"})

    assert list(events.problems(loose, Published({}, loose.schemas))) == []


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
    assert events.is_earlier(release_id, other) is earlier
