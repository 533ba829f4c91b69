"""Whatever happens to Redis, the same requests get the same answers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from app.adapters.postgres.catalog_seed import seed
from app.adapters.postgres.pool import Connection
from tests.integration.api.conftest import ApiProcess, Issuer, StartApi
from tests.support.builders import fiber, legacy, published
from tests.support.services import Services
from tests.support.tcp_proxy import TcpProxy

ITEMS = [{"offeringId": "fiber-1000", "quantity": 12}]
Disturb = Callable[[], Awaitable[None]]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)")


async def nothing() -> None:
    """The undisturbed run."""


def cheaper(offering: dict[str, Any]) -> dict[str, Any]:
    """The same offering at a price that nobody published."""
    prices = [price | {"unit_amount": "1.000000"} for price in offering.get("prices", [])]
    return offering | {"prices": prices, "is_sellable": True}


async def answers(api: ApiProcess, issuer: Issuer, tenant: str, disturb: Disturb) -> list[tuple[int, Any]]:
    """Run the script, disturbing before each request: status and body of each, with what is new each time made equal."""
    found: list[tuple[int, Any]] = []
    headers = {"Authorization": f"Bearer {issuer.token(tenant)}"}
    async with httpx.AsyncClient(base_url=api.http, headers=headers, timeout=20) as client:

        async def ask(method: str, path: str, body: Any = None, **more: str) -> httpx.Response:
            await disturb()
            answer = await client.request(
                method, path, json=body, headers={k.replace("_", "-"): v for k, v in more.items()}
            )
            found.append((answer.status_code, json.loads(_TIME.sub("time", _UUID.sub("id", answer.text)))))
            return answer

        await ask("GET", "/v1/catalog/offerings")
        body = {"customerId": "c-1", "currency": "EUR", "items": ITEMS}
        key = str(uuid.uuid4())
        quote = (await ask("POST", "/v1/quotes", body, Idempotency_Key=key)).headers["Location"]
        await ask("POST", "/v1/quotes", body, Idempotency_Key=key)
        priced = await ask("POST", f"{quote}/price")
        accepted = await ask("POST", f"{quote}/accept", If_Match=priced.headers["ETag"])
        etag = accepted.headers["ETag"]
        converted = await ask("POST", f"{quote}/convert", Idempotency_Key=str(uuid.uuid4()), If_Match=etag)
        await ask("GET", converted.headers["Location"])
        unsold = {**body, "items": [{"offeringId": "isdn-legacy", "quantity": 1}]}
        await ask("POST", "/v1/quotes", unsold, Idempotency_Key=str(uuid.uuid4()))
        unknown = {**body, "items": [{"offeringId": "nothing", "quantity": 1}]}
        await ask("POST", "/v1/quotes", unknown, Idempotency_Key=str(uuid.uuid4()))
        await ask("GET", f"/v1/quotes/{uuid.uuid4()}")
    return found


@pytest.fixture
async def expected(admin_connection: Connection, start_api: StartApi, issuer: Issuer, tenant_id: str) -> Any:
    """What is answered with Redis as it should be, by an API that is kept for the test."""
    await seed(admin_connection, [published(tenant_id, [fiber(), legacy()])], "tests")
    api = start_api(API_WORKERS="1")
    assert api.wait_for("READY=1"), api.log.read_text()
    found = await answers(api, issuer, tenant_id, nothing)
    assert [status for status, _ in found] == [200, 201, 201, 200, 200, 201, 200, 422, 422, 404]
    return api, tenant_id, found


@pytest.fixture
def redis_proxy(services: Services) -> Iterator[TcpProxy]:
    """A way to Redis that can be disturbed."""
    with TcpProxy(services.address("redis")) as proxy:
        yield proxy


async def test_a_flush_or_foreign_data_before_each_request_changes_no_answer(
    expected: Any, issuer: Issuer, admin_redis: Redis, services: Services
) -> None:
    api, tenant_id, found = expected

    async def keys() -> list[bytes]:
        return [key async for key in admin_redis.scan_iter(f"{services.environment}:{tenant_id}:*", count=1000)]

    async def flush() -> None:
        for key in await keys():
            await admin_redis.delete(key)

    assert await answers(api, issuer, tenant_id, flush) == found
    assert await answers(api, issuer, tenant_id, nothing) == found
    genuine = {key: json.loads(await admin_redis.get(key) or b"") for key in await keys() if b":offering:" in key}
    assert genuine

    # What another environment, another tenant, another release, a restored database or a fault may have left.
    changes: list[dict[str, Any]] = [
        {"environment": "elsewhere"},
        {"tenant_id": "somebody-else"},
        {"value_version": 99},
        {"catalog_version": 7},
        {"content_sha256": "0" * 64},
        {"offering": None},
    ]
    for change in changes:

        async def plant(change: dict[str, Any] = change) -> None:
            for key, value in genuine.items():
                planted = value | {"offering": cheaper(value["offering"])} | change
                await admin_redis.set(key, json.dumps(planted), px=60_000)

        assert await answers(api, issuer, tenant_id, plant) == found, change


async def test_a_redis_that_is_stopped_slow_or_deaf_changes_no_answer(
    expected: Any, issuer: Issuer, start_api: StartApi, redis_proxy: TcpProxy
) -> None:
    _, tenant_id, found = expected
    for fault in ("stopped", "slow", "deaf"):
        redis_proxy.is_refusing = redis_proxy.is_losing_replies = False
        redis_proxy.delay_s = 0.0
        api = start_api(API_WORKERS="1", REDIS_URL=f"redis://api@{redis_proxy.address}/0")
        assert api.wait_for("READY=1"), api.log.read_text()
        redis_proxy.is_refusing = fault == "stopped"
        redis_proxy.delay_s = 5.0 if fault == "slow" else 0.0
        redis_proxy.is_losing_replies = fault == "deaf"

        assert await answers(api, issuer, tenant_id, nothing) == found, fault

        assert "redis unavailable, going on without it" in api.log.read_text(), fault
        api.stop()
