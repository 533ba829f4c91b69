"""External systems that call back: early, twice, for nobody's order, or instead of an answer that was lost."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from app.adapters.postgres.pool import Connection
from app.contracts.callbacks import SIGNATURE_HEADER, TIMESTAMP_HEADER, callback_path, signature, tenant_key
from app.domain.external_calls import idempotency_key
from app.domain.values import OrderId, TenantId
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.services import Services
from tests.support.unit_process import UnitProcess, free_port
from tests.support.waiting import eventually

STEP = "provision-service"


class Receiver:
    """The receiver of callbacks as a process."""

    def __init__(self, services: Services, credentials: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        secrets = {name: secret for name, secret in credentials.items() if name.endswith("-callback-secret")}
        self.secret = secrets["provisioning-callback-secret"]
        settings = {
            "HTTP_BIND": f"127.0.0.1:{port}",
            "DB_URL": services.database_url("callback"),
            "DB_POOL_MAX": "3",
            "DB_STATEMENT_TIMEOUT": "PT5S",
        }
        password = {"db-password": services.secret("db_callback_password")}
        self.process = UnitProcess("callback", settings, secrets | password).wait_ready()

    def send(self, tenant: str, document: dict[str, Any], *, key_of: str | None = None) -> int:
        """Sign a callback for a tenant and send it; the status that is answered."""
        body, stamp = json.dumps(document).encode(), int(time.time())
        key = tenant_key(self.secret, "provisioning", key_of or tenant)
        headers = {TIMESTAMP_HEADER: str(stamp), SIGNATURE_HEADER: signature(key, stamp, body)}
        request = urllib.request.Request(self.url + callback_path("provisioning", tenant), body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


@pytest.fixture
def receiver(services: Services, schema: None, simulator: Simulator) -> Iterator[Receiver]:  # noqa: ARG001
    """A receiver that knows the simulator's secrets."""
    receiver = Receiver(services, simulator.credentials)
    yield receiver
    receiver.process.close()


async def stored(orders: Orders, order_id: OrderId) -> list[tuple[str, str]]:
    rows = await orders.rows("SELECT * FROM cpq.external_callback WHERE order_id = %(order_id)s", order_id)
    return [(row["disposition"], row["outcome"]) for row in rows]


def callback_for(order_id: OrderId, tenant_id: str, **changes: str) -> dict[str, str]:
    return {
        "callbackId": f"callback-{order_id}",
        "idempotencyKey": idempotency_key("ci", TenantId(tenant_id), order_id, STEP, 1),
        "orderId": str(order_id),
        "id": "provisioning-elsewhere",
        "outcome": "done",
        "occurredAt": "2026-11-22T12:00:00+00:00",
    } | changes


@pytest.mark.parametrize(
    ("behaviour", "disposition", "deliveries"),
    [
        ({"finishes_after": "PT0.3S"}, "matched", 1),
        ({"finishes_after": "PT0.3S", "callbacks": "twice"}, "matched", 2),
        ({"callbacks": "early"}, "early", 1),
        ({"callbacks": "early", "mode": "act-then-timeout"}, "early", 1),
    ],
    ids=["once", "twice", "before the reply", "instead of the reply"],
)
async def test_a_callback_ends_the_step_once(  # noqa: PLR0917
    orders: Orders,
    start_worker: StartWorker,
    simulator: Simulator,
    receiver: Receiver,
    behaviour: dict[str, Any],
    disposition: str,
    deliveries: int,
) -> None:
    simulator.behave("provisioning", answers="accepted", **behaviour)
    # Only the callback can tell.
    simulator.add_rule("provisioning", mode="error", status=500, methods=["GET"])
    start_worker("starter")
    start_worker("fulfillment", CALLBACK_URL=receiver.url, EXTERNAL_TIMEOUT="PT1S")
    order_id = await orders.place()

    await orders.completed(order_id)

    assert await stored(orders, order_id) == [(disposition, "done")]
    assert simulator.effects(order_id).count("provisioning") == 1
    assert simulator.requests(order_id).count("provisioning") == 1
    sent = [callback for callback in simulator.ledger()["callbacks"] if callback["orderId"] == str(order_id)]
    assert [callback["answer"] for callback in sent] == ["200"] * deliveries
    audit = await orders.rows(
        "SELECT * FROM cpq.audit_entry WHERE target_id LIKE '%%:' || %(order_id)s || ':%%' AND actor LIKE 'system:%%'",
        order_id,
    )
    assert [(entry["actor"], entry["after_state"]["disposition"]) for entry in audit] == [
        ("system:provisioning", disposition)
    ]


async def test_work_that_failed_there_is_a_refusal_and_is_not_asked_for_again(
    orders: Orders, start_worker: StartWorker, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.behave("provisioning", answers="accepted", finishes_as="failed", callbacks="early")
    start_worker("starter")
    start_worker("fulfillment", CALLBACK_URL=receiver.url)
    order_id = await orders.place()

    async def is_in_fallout() -> bool:
        cases = await orders.rows("SELECT * FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
        return [(case["step"], case["error_code"]) for case in cases] == [(STEP, "refused")]

    await eventually(is_in_fallout, "a person is asked")
    assert await stored(orders, order_id) == [("early", "failed")]
    assert simulator.effects(order_id).count("provisioning") == 1


async def test_only_the_tenants_own_key_and_orders_count(
    orders: Orders,
    start_worker: StartWorker,
    receiver: Receiver,
    admin_connection: Connection,
    tenant_id: str,
) -> None:
    start_worker("starter")
    start_worker("fulfillment", CALLBACK_URL=receiver.url)
    order_id = await orders.place()
    await orders.completed(order_id)
    rival = f"{tenant_id}-r"
    await admin_connection.execute(
        "INSERT INTO cpq.tenant (tenant_id, display_name, default_currency) VALUES (%s, 'rival', 'EUR')", [rival]
    )
    document = callback_for(order_id, tenant_id)

    assert receiver.send(tenant_id, document, key_of=rival) == 401
    assert receiver.send(rival, document) == 404
    assert receiver.send(rival, callback_for(order_id, rival)) == 404
    assert receiver.send(tenant_id, document | {"idempotencyKey": "ci:nobody:none:none:1"}) == 404
    assert await stored(orders, order_id) == []

    # Late: the order has come to its end. It is kept, and changes nothing.
    assert [receiver.send(tenant_id, document) for _ in range(2)] == [200, 200]
    assert receiver.send(tenant_id, document | {"outcome": "failed"}) == 409
    assert await stored(orders, order_id) == [("late", "done")]
    assert await orders.state(order_id) == "completed"
