from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from app.application.ports import StoreUnavailable
from app.contracts.loader import DIRECTORY
from app.entrypoints.api.app import routes
from tests.unit.api.conftest import Client, World, new_quote

DOCUMENT: dict[str, Any] = yaml.safe_load((DIRECTORY / "openapi.yml").read_text())


def assert_shape(name: str, document: object) -> None:
    """Hold a body against a schema of the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(document)


async def test_a_quote_becomes_an_order(client: Client) -> None:
    created = await client.create()
    path = created.json["href"]
    priced = await client.request("POST", f"{path}/price")
    accepted = await client.request("POST", f"{path}/accept", headers={"If-Match": priced.headers["etag"]})
    converted = await client.convert(path)
    order = await client.request("GET", converted.headers["location"])
    quote = await client.request("GET", path)

    statuses = [each.status_code for each in (created, priced, accepted, converted, order, quote)]
    assert statuses == [201, 200, 200, 201, 200, 200]
    assert created.headers["location"] == path
    assert [created.json["state"], priced.json["state"], accepted.json["state"], order.json["state"]] == [
        "inProgress",
        "approved",
        "accepted",
        "acknowledged",
    ]
    assert (order.json["totalOneTime"], order.json["totalRecurring"]) == ("499.00", "349.56")
    assert [step["step"] for step in quote.json["items"][0]["priceWaterfall"]][4:] == [
        "list",
        "quantity",
        "tierDiscount",
        "rounding",
    ]
    assert order.json == converted.json
    for each in (created, priced, accepted, quote):
        assert_shape("Quote", each.json)
    assert_shape("Order", order.json)


async def test_the_catalog_is_listed(client: Client) -> None:
    catalog = await client.request("GET", "/v1/catalog/offerings")

    assert [offering["id"] for offering in catalog.json["offerings"]] == ["fiber-1000"]
    assert_shape("Catalog", catalog.json)


async def test_a_replay_has_the_same_bytes_and_says_so(client: Client, world: World) -> None:
    path = await client.accepted()
    first, second = await client.convert(path), await client.convert(path)

    assert second.content == first.content
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["etag"] == first.headers["etag"]
    assert (first.headers["idempotency-replayed"], second.headers["idempotency-replayed"]) == ("false", "true")
    assert world.registry.get_sample_value("cpq_orders_total", {"state": "acknowledged"}) == 1


async def test_the_spelling_of_the_json_does_not_make_another_request(client: Client) -> None:
    first = await client.create(
        body=b'{"customerId":"c-1","currency":"EUR","items":[{"offeringId":"fiber-1000","quantity":1}]}'
    )
    second = await client.create(
        body=b'{ "items": [{"quantity": 1, "offeringId": "fiber-1000"}], "currency": "EUR", "customerId": "c-1" }'
    )

    assert second.content == first.content


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("x" * 256, 400, "idempotency-key-malformed"),
        ("", 400, "idempotency-key-malformed"),
        ("with space", 400, "idempotency-key-malformed"),
        ("x" * 255, 201, None),
        ('"quoted-key"', 201, None),
    ],
)
async def test_the_form_of_an_idempotency_key(client: Client, key: str, status: int, code: str | None) -> None:
    answer = await client.create(key)

    assert answer.status_code == status
    assert answer.json.get("code") == code


async def test_a_key_is_required_where_something_is_created(client: Client) -> None:
    without = await client.request("POST", "/v1/quotes", body=new_quote())

    assert (without.status_code, without.json["code"]) == (400, "idempotency-key-missing")


async def test_a_key_of_another_request_is_refused(client: Client) -> None:
    path = await client.accepted()
    other_body = await client.create(body=new_quote(customerId="c-2"))
    other_route = await client.convert(path, key="k-1")

    assert [(each.status_code, each.json["code"]) for each in (other_body, other_route)] == [
        (422, "idempotency-key-reused")
    ] * 2


async def test_acceptance_needs_the_version_that_was_read(client: Client) -> None:
    path = (await client.create()).json["href"]
    await client.request("POST", f"{path}/price")

    answers = {
        header: await client.request("POST", f"{path}/accept", headers={"If-Match": header} if header else {})
        for header in ("", "*", '"1"', 'W/"2"', '"two"', "2", '"2"')
    }

    assert {header: each.status_code for header, each in answers.items()} == {
        "": 428,
        "*": 428,
        '"1"': 412,
        'W/"2"': 412,
        '"two"': 412,
        "2": 400,
        '"2"': 200,
    }


@pytest.mark.parametrize(
    ("steps", "refused"),
    [
        ([], "accept"),
        ([], "convert"),
        (["price"], "convert"),
        (["price", "accept"], "accept"),
        (["price", "accept"], "price"),
    ],
)
async def test_steps_cannot_be_skipped_or_repeated(client: Client, steps: list[str], refused: str) -> None:
    path = (await client.create()).json["href"]
    for step in [*steps, refused]:
        etag = (await client.request("GET", path)).headers["etag"]
        answer = await client.request("POST", f"{path}/{step}", headers={"If-Match": etag, "Idempotency-Key": "s"})

    assert (answer.status_code, answer.json["code"]) == (409, "quote-state-conflict")


async def test_a_second_conversion_names_the_order(client: Client) -> None:
    path = await client.accepted()
    order = (await client.convert(path)).json["id"]

    again = await client.convert(path, key="another")

    assert (again.status_code, again.json["code"]) == (409, "quote-already-converted")
    assert order in again.json["detail"]


async def test_another_tenants_things_do_not_exist(client: Client) -> None:
    path = await client.accepted()
    order = (await client.convert(path)).headers["location"]
    never = "/v1/quotes/00000000-0000-7000-8000-000000000000"

    for mine, unknown in ((path, never), (order, never.replace("quotes", "orders"))):
        foreign = await client.request("GET", mine, tenant="globex")
        absent = await client.request("GET", unknown, tenant="globex")
        assert (foreign.status_code, absent.status_code) == (404, 404)
        assert {**foreign.json, "requestId": ""} == {**absent.json, "requestId": ""}


async def test_a_database_that_is_away_is_503_and_no_more(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_self: object) -> None:
        raise StoreUnavailable("QueryCanceled")

    monkeypatch.setattr("app.adapters.memory.unit_of_work.MemoryUnitOfWork.__aenter__", away)

    answer = await client.create()

    assert (answer.status_code, answer.json["code"]) == (503, "temporarily-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "QueryCanceled" not in answer.text


async def test_a_defect_of_ours_is_a_500_without_a_stack(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(_self: object) -> None:
        raise ZeroDivisionError("internal detail")

    monkeypatch.setattr("app.adapters.memory.unit_of_work.MemoryUnitOfWork.__aenter__", defect)

    answer = await client.request("GET", "/v1/catalog/offerings")

    assert (answer.status_code, answer.json["code"]) == (500, "internal-error")
    assert_shape("Problem", answer.json)
    assert "internal detail" not in answer.text
    assert "Traceback" not in answer.text


def test_the_document_describes_every_route_and_scope(world: World) -> None:
    described = {
        (path, method.upper()): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    served = {
        (route.template.replace(":uuid", ""), method): scope
        for route in routes(world.dependencies)
        for method, scope in route.scopes.items()
    }

    assert described.keys() == served.keys()
    for key, scope in served.items():
        expected = [] if scope is None else [{"accessToken": [scope]}]
        assert described[key]["security"] == expected, key


async def test_the_document_is_served(client: Client) -> None:
    served = await client.request("GET", "/openapi.json", token=None)

    assert served.json == DOCUMENT
