from __future__ import annotations

from typing import Any

import pytest

from app.entrypoints.api.app import routes
from app.entrypoints.api.json_body import MAX_BODY_BYTES
from tests.unit.api.conftest import Client, World, new_quote
from tests.unit.api.test_quote_to_order import assert_shape

VALID = '"customerId":"c-1","currency":"EUR","items":[{"offeringId":"fiber-1000","quantity":1}]'


@pytest.mark.parametrize(
    "body",
    [
        b"{" + VALID.encode() + b',"currency":"USD"}',
        b"{" + VALID.encode() + b',"x":NaN}',
        b"{" + VALID.encode() + b',"x":Infinity}',
        b"{" + VALID.encode() + b"} trailing",
        b"{" + VALID.encode() + b",}",
        b"{" + VALID.encode() + b"/* comment */}",
        b"\xef\xbb\xbf{" + VALID.encode() + b"}",
        ("{" + VALID + "}").encode("utf-16"),
        b'{"customerId":"\xff"}',
        b'{"items":' + b"1" * 4301 + b"}",
        b"[" * 30000,
        b'{"a":' * 10000,
        b"nothing",
    ],
)
async def test_what_is_not_strict_json_is_400(client: Client, body: bytes) -> None:
    answer = await client.create(body=body)

    assert (answer.status_code, answer.json["code"]) == (400, "malformed-json")
    assert_shape("Problem", answer.json)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"state": "accepted"}, "/state"),
        ({"tenantId": "globex"}, "/tenantId"),
        ({"totalOneTime": "0.01"}, "/totalOneTime"),
        ({"customerId": None}, "/customerId"),
        ({"customerId": 7}, "/customerId"),
        ({"customerId": "a\r\nb"}, "/customerId"),
        ({"currency": "eur"}, "/currency"),
        ({"items": []}, "/items"),
        ({"items": [{"offeringId": "fiber-1000"}]}, "/items/0/quantity"),
        ({"items": [{"offeringId": "fiber-1000", "quantity": 0}]}, "/items/0/quantity"),
        ({"items": [{"offeringId": "fiber-1000", "quantity": -1}]}, "/items/0/quantity"),
        ({"items": [{"offeringId": "fiber-1000", "quantity": 1.5}]}, "/items/0/quantity"),
        ({"items": [{"offeringId": "fiber-1000", "quantity": 1e400}]}, None),
        ({"items": [{"offeringId": "fiber-1000", "quantity": "1"}]}, "/items/0/quantity"),
        ({"items": [{"offeringId": "fiber-1000", "quantity": True}]}, "/items/0/quantity"),
        ({"items": [{"offeringId": "fiber-1000", "quantity": 1, "price": "1.00"}]}, "/items/0/price"),
        ({"items": [{"offeringId": "'; DROP TABLE--", "quantity": 1}]}, "/items/0/offeringId"),
        ({"validFor": {"endDateTime": "2026-11-23T12:00:00"}}, "/validFor/endDateTime"),
        ({"validFor": None}, "/validFor"),
    ],
)
async def test_a_wrong_field_is_422_and_named_by_its_pointer(
    client: Client, change: dict[str, Any], pointer: str | None
) -> None:
    answer = await client.create(body=new_quote(**change))

    if pointer is None:
        assert answer.status_code == 400
        return
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert_shape("Problem", answer.json)


async def test_a_missing_field_is_named(client: Client) -> None:
    answer = await client.create(body={"currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 1}]})

    assert answer.json["errors"] == [{"pointer": "/customerId", "detail": "required field is missing"}]


async def test_a_command_without_content_takes_none(client: Client) -> None:
    path = (await client.create()).json["href"]

    assert (await client.request("POST", f"{path}/price", body={"discount": 50})).status_code == 422
    assert (await client.request("POST", f"{path}/price", body={})).status_code == 200


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 20 * MAX_BODY_BYTES])
async def test_a_body_over_the_limit_is_413(client: Client, size: int) -> None:
    answer = await client.create(body=b" " * size)

    assert (answer.status_code, answer.json["code"]) == (413, "content-too-large")


async def test_a_body_of_another_type_is_415(client: Client) -> None:
    answer = await client.create(headers={"Content-Type": "text/plain"})

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/quotes/not-a-uuid", 404),
        ("GET", "/v1/quotes/..;/", 404),
        ("GET", "/v1//quotes", 404),
        ("DELETE", "/v1/quotes", 405),
        ("TRACE", "/v1/quotes", 405),
        ("PUT", "/health/live", 405),
    ],
)
async def test_an_unknown_address_or_method_is_a_problem_too(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert_shape("Problem", answer.json)


async def test_every_operation_refuses_a_token_without_its_scope(client: Client, world: World) -> None:
    for route in routes(world.dependencies):
        for method, scope in route.scopes.items():
            if scope is None:
                continue
            path = route.template.replace("{quote_id:uuid}", "0" * 32).replace("{order_id:uuid}", "0" * 32)
            others = " ".join({"quote:read", "quote:write", "order:read", "order:write", "catalog:read"} - {scope})
            answer = await client.request(method, path, scope=others)
            assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), (method, path)
            assert (await client.request(method, path, token=None)).status_code == 401


async def test_every_answer_has_the_request_id(client: Client) -> None:
    own = await client.request("GET", "/nowhere", headers={"X-Request-Id": "mine-1"})
    forged = await client.request("GET", "/nowhere", headers={"X-Request-Id": "a b"})

    assert own.headers["x-request-id"] == own.json["requestId"] == "mine-1"
    assert forged.headers["x-request-id"] == forged.json["requestId"] != "a b"


async def test_the_trace_goes_on_and_a_malformed_one_does_not(client: Client, world: World) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    await client.create("t-1", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    await client.create("t-2", headers={"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"})

    first, second = [event.traceparent or "" for event in world.store.rows.outbox]
    assert first.startswith(f"00-{trace}-")
    assert "b7ad6b7169203331" not in first
    assert not second.startswith("00-" + "0" * 32)
