"""Each rule of the API's compatibility is broken once, in what clients send and in what they read; what may change is changed once, too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from app.contracts.compatibility import openapi
from app.contracts.compatibility.finding import Finding, Level
from app.contracts.loader import DIRECTORY

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "security": [{"token": ["parcel:read"]}],
    "paths": {
        "/v1/parcels/{parcel_id}": {
            "parameters": [{"name": "parcel_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "put": {
                "parameters": [{"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"}}],
                "requestBody": {
                    "required": False,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Parcel"}}},
                },
                "responses": {
                    "200": {
                        "headers": {"ETag": {"schema": {"type": "string"}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Parcel"}}},
                    },
                    "404": {"description": "No."},
                },
            },
        }
    },
    "components": {
        "schemas": {
            "Parcel": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string", "pattern": "^[a-z]+$"},
                    "state": {"enum": ["sent", "lost"]},
                    "kind": {"enum": ["letter"], "x-open": True},
                    "weight": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
                    "stops": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "null"}]}},
                },
            }
        }
    },
}
PATH = "/v1/parcels/{parcel_id}"
AT = "/paths/~1v1~1parcels~1{parcel_id}/put"
PARCEL = "/components/schemas/Parcel"


class Parts:
    """What a change works on."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.operation = document["paths"][PATH]["put"]
        self.parcel = document["components"]["schemas"]["Parcel"]
        self.properties = self.parcel["properties"]


Change = Callable[[Parts], object]


def after(change: Change) -> list[Finding]:
    document = copy.deepcopy(DOCUMENT)
    change(Parts(document))
    return list(openapi.compare(DOCUMENT, document))


def deprecated_in_favour_of_version_2() -> tuple[dict[str, Any], dict[str, Any]]:
    older = copy.deepcopy(DOCUMENT)
    older["paths"][PATH]["put"]["deprecated"] = True
    newer = copy.deepcopy(older)
    newer["paths"]["/v2/parcels/{id}"] = newer["paths"].pop(PATH)
    return older, newer


@pytest.mark.parametrize(
    ("change", "at", "text"),
    [
        (lambda d: d.operation["responses"].pop("200"), f"{AT}/responses/200", "is gone"),
        (lambda d: d.operation["responses"].update({"202": {}}), f"{AT}/responses/202", "is another success"),
        (
            lambda d: d.operation["responses"]["200"]["headers"].pop("ETag"),
            f"{AT}/responses/200/headers/ETag",
            "is gone",
        ),
        (
            lambda d: d.operation["responses"]["200"]["content"].clear(),
            f"{AT}/responses/200/content/application~1json",
            "is gone, which clients of before read",
        ),
        (lambda d: d.operation["parameters"].clear(), f"{AT}/parameters/header/if-match", "is gone"),
        (
            lambda d: d.operation["parameters"][0].update(required=True),
            f"{AT}/parameters/header/if-match",
            "is required now",
        ),
        (
            lambda d: d.operation["parameters"].append({"name": "dryRun", "in": "query", "required": True}),
            f"{AT}/parameters/query/dryrun",
            "is new and required",
        ),
        (
            lambda d: d.operation["requestBody"].update(required=True),
            f"{AT}/requestBody/required",
            "a body is required",
        ),
        (
            lambda d: d.operation.update(security=[{"token": ["parcel:write"]}]),
            f"{AT}/security",
            "asks for token parcel:write",
        ),
        (lambda d: d.parcel["required"].append("state"), f"{PARCEL}/required/state", "is required now"),
        (lambda d: d.parcel["required"].remove("id"), f"{PARCEL}/required/id", "may be missing now"),
        (lambda d: d.properties.pop("weight"), f"{PARCEL}/properties/weight", "is gone or has another name"),
        (lambda d: d.properties["state"]["enum"].remove("lost"), f"{PARCEL}/properties/state/enum", "no longer lost"),
        (lambda d: d.properties["state"]["enum"].append("found"), f"{PARCEL}/properties/state/enum", "also found, and"),
        (
            lambda d: d.properties["weight"].update(type="integer"),
            f"{PARCEL}/properties/weight/type",
            "was integer, null",
        ),
        (lambda d: d.properties["id"].update(type="integer"), f"{PARCEL}/properties/id/type", "was string, is integer"),
        (lambda d: d.properties["id"].update(pattern="^[a-f]+$"), f"{PARCEL}/properties/id/pattern", "was ^[a-z]+$"),
        (lambda d: d.properties["weight"].update(maximum=9), f"{PARCEL}/properties/weight/maximum", "was 10, is 9"),
        (lambda d: d.properties["weight"].update(minimum=0), f"{PARCEL}/properties/weight/minimum", "was 1, is 0"),
        (
            lambda d: d.properties["stops"].update(maxItems=3),
            f"{PARCEL}/properties/stops/maxItems",
            "was nothing, is 3",
        ),
        (
            lambda d: d.properties["stops"]["items"]["oneOf"].pop(),
            f"{PARCEL}/properties/stops/items/oneOf",
            "had 2 alternatives, has 1",
        ),
        (lambda d: d.properties["stops"].pop("items"), f"{PARCEL}/properties/stops/items", "is gone"),
        (lambda d: d.parcel.update(additionalProperties=False), f"{PARCEL}/additionalProperties", "was True, is False"),
        (
            lambda d: d.properties["id"].update(contentEncoding="base64"),
            f"{PARCEL}/properties/id/contentEncoding",
            "was None",
        ),
    ],
)
def test_what_refuses_or_misleads_clients_is_named_by_its_pointer(change: Change, at: str, text: str) -> None:
    breaking = [finding for finding in after(change) if finding.level is Level.BREAKING]

    assert {finding.at for finding in breaking} == {at}
    assert any(finding.text.startswith(text) for finding in breaking)


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (lambda _: None, Level.COMPATIBLE),
        (lambda d: d.parcel.update(description="In other words."), Level.COMPATIBLE),
        (lambda d: d.operation["parameters"].append({"name": "dryRun", "in": "query"}), Level.COMPATIBLE),
        (lambda d: d.operation["responses"].pop("404"), Level.COMPATIBLE),
        (lambda d: d.operation["responses"].update({"409": {}}), Level.READERS),
        (lambda d: d.operation["responses"]["200"]["headers"].update(Age={}), Level.READERS),
        (lambda d: d.operation["parameters"][0].update(name="if-match"), Level.COMPATIBLE),
        (lambda d: d.properties.update(colour={"type": "string"}), Level.READERS),
        (lambda d: d.properties["kind"]["enum"].append("box"), Level.READERS),
        (lambda d: d.operation.update(security=[{"token": []}]), Level.COMPATIBLE),
        (lambda d: d.operation.update(security=[{"token": ["x"]}, {"token": ["parcel:read"]}]), Level.COMPATIBLE),
        (lambda d: d.operation.update(security=[]), Level.COMPATIBLE),
    ],
)
def test_what_clients_can_live_with_is_no_break(change: Change, level: Level) -> None:
    assert max((finding.level for finding in after(change)), key=tuple(Level).index, default=Level.COMPATIBLE) is level


def test_what_one_side_may_do_the_other_may_not() -> None:
    """A wider limit suits what clients send and not what they read, so a schema for both keeps its limits."""
    document = copy.deepcopy(DOCUMENT)
    del document["paths"][PATH]["put"]["responses"]["200"]["content"]
    wider = copy.deepcopy(document)
    wider["components"]["schemas"]["Parcel"]["properties"]["weight"]["maximum"] = 11

    [finding] = openapi.compare(document, wider)
    assert finding.level is Level.COMPATIBLE


def test_an_operation_goes_only_when_it_was_deprecated_beside_a_later_version() -> None:
    older, newer = deprecated_in_favour_of_version_2()

    assert {finding.level for finding in openapi.compare(older, newer)} == {Level.COMPATIBLE, Level.READERS}
    [silent] = [finding for finding in openapi.compare(DOCUMENT, newer) if finding.level is Level.BREAKING]
    assert (silent.at, silent.text.split(";")[0]) == (AT, "is gone")
    [alone] = openapi.compare(older, {**older, "paths": {}})
    assert alone.level is Level.BREAKING


def test_the_name_of_a_place_in_the_path_is_no_difference() -> None:
    renamed = copy.deepcopy(DOCUMENT)
    renamed["paths"]["/v1/parcels/{id}"] = renamed["paths"].pop(PATH)
    renamed["paths"]["/v1/parcels/{id}"]["parameters"][0]["name"] = "id"

    assert list(openapi.compare(DOCUMENT, renamed)) == []


def test_every_part_of_our_own_document_is_judged() -> None:
    """What is taken away anywhere below an operation breaks somebody: no part of the document is passed over."""
    document = yaml.safe_load((DIRECTORY / "openapi.yml").read_text())
    assert list(openapi.compare(document, document)) == []
    missed = []
    for name, schema in document["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            changed = copy.deepcopy(document)
            del changed["components"]["schemas"][name]["properties"][field]
            if not any(finding.level is Level.BREAKING for finding in openapi.compare(document, changed)):
                missed.append(f"{name}.{field}")

    assert missed == []
