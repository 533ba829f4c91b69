"""variables/*.schema.json and the types that read and write them say the same."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from app.contracts import process_variables
from app.contracts.loader import DIRECTORY
from app.contracts.process_variables import VERSIONS, VariablesError

VARIABLES: dict[str, Any] = {
    "orderId": "01a20500-e849-7151-8c2b-404070597727",
    "tenantId": "acme",
    "orderHash": "a" * 64,
    "processId": "order-fulfillment-v2",
}


def validator(version: int) -> jsonschema.Draft202012Validator:
    schema = json.loads((DIRECTORY / "variables" / f"order-fulfillment.v{version}.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_is_of_its_schema_and_reads_back(version: int) -> None:
    written = process_variables.write(version, **VARIABLES)

    validator(version).validate(written)
    assert written["schemaVersion"] == version
    assert str(process_variables.read(written).order_id) == VARIABLES["orderId"]


def test_a_version_has_no_variables_of_a_later_one() -> None:
    assert "processId" not in process_variables.write(1, **VARIABLES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orderId", "1"),
        ("orderId", None),
        ("tenantId", "Acme"),
        ("orderHash", "x"),
        ("processId", "fulfillment"),
        ("processId", 2),
        ("customerName", "Ada"),
        ("schemaVersion", 3),
        ("schemaVersion", "1"),
        ("schemaVersion", True),
        ("schemaVersion", [1]),
    ],
)
def test_both_refuse_the_same(version: int, name: str, value: object) -> None:
    variables = process_variables.write(version, **VARIABLES) | {name: value}

    assert not validator(version).is_valid(variables)
    with pytest.raises(VariablesError):
        process_variables.read(variables)


@pytest.mark.parametrize("version", VERSIONS)
def test_both_refuse_variables_with_one_missing(version: int) -> None:
    written = process_variables.write(version, **VARIABLES)
    for missing in written:
        variables = {name: value for name, value in written.items() if name != missing}

        assert not validator(version).is_valid(variables)
        with pytest.raises(VariablesError):
            process_variables.read(variables)


@pytest.mark.parametrize("version", [0, 3])
def test_a_version_nobody_knows_is_not_written(version: int) -> None:
    with pytest.raises(VariablesError, match=f"variables schema version {version} is not one of 1, 2"):
        process_variables.write(version, **VARIABLES)


def test_what_is_not_an_id_or_a_hash_is_not_written() -> None:
    with pytest.raises(VariablesError, match="orderHash"):
        process_variables.write(1, **VARIABLES | {"orderHash": "Ada Lovelace"})
