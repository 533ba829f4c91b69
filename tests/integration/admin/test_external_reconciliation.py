"""The comparison with an external system, on real attempts and what the simulator really did."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app.adapters.postgres.pool import Connection
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.domain.values import OrderId
from app.entrypoints.admin.commands.reconcile import external
from app.runtime.clock import SystemClock
from tests.integration.conftest import OpenPool
from tests.integration.worker.conftest import Simulator
from tests.support.operator import Operator
from tests.support.orders import place_order, publish_catalog
from tests.support.services import Services


class Later(SystemClock):
    """Half an hour ahead: what was done a moment ago is no longer fresh."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=30)


def perform(simulator: Simulator, key: str) -> None:
    """Have the simulated billing do something under a key."""
    request = urllib.request.Request(
        f"{simulator.url}/billing/v1/subscriptions",
        json.dumps({"orderId": "o", "tenantId": "t"}).encode(),
        {
            "Authorization": f"Bearer {simulator.credentials['billing-token']}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
        method="POST",
    )
    urllib.request.urlopen(request, timeout=5).close()


@dataclass(frozen=True)
class Calls:
    """The attempts of an order of this test's tenant."""

    environment: str
    tenant_id: str
    order_id: OrderId
    owner: Connection

    def key(self, step: str) -> str:
        """The key of a step's calls."""
        return f"{self.environment}:{self.tenant_id}:{self.order_id}:{step}:1"

    async def write(self, step: str, *states: str) -> None:
        """Write attempts of a step down, with what became of them."""
        for number, state in enumerate(states, 1):
            await self.owner.execute(
                "INSERT INTO cpq.external_call_attempt (attempt_id, tenant_id, order_id, step, attempt_no,"
                " external_system, idempotency_key, request_sha256, state, prepared_at)"
                " VALUES (%s, %s, %s, %s, %s, 'billing', %s, '', %s, now())",
                [uuid.uuid4(), self.tenant_id, self.order_id, step, number, self.key(step), state],
            )


@pytest.fixture
async def calls(
    services: Services, tenant_id: str, open_pool: OpenPool, owner_connection: Connection, admin_connection: Connection
) -> Calls:
    await publish_catalog(admin_connection, tenant_id)
    order_id = await place_order(unit_of_work_factory(await open_pool("api")), tenant_id)
    return Calls(services.environment, tenant_id, order_id, owner_connection)


@pytest.fixture
def ana_at(services: Services, schema: None, tmp_path: Path, simulator: Simulator) -> Callable[[str], Operator]:  # noqa: ARG001 (wanted for what it does)
    """An operator whose billing is at a URL."""
    tokens = {"billing-token": simulator.credentials["billing-token"]}
    return lambda url: Operator(services, tmp_path, changes={"BILLING_URL": url}, tokens=tokens)


async def test_what_disagrees_with_a_system_is_listed_and_audited(
    ana_at: Callable[[str], Operator],
    simulator: Simulator,
    calls: Calls,
    admin_connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(external, "SystemClock", Later)
    await calls.write("agreed", "failed", "succeeded")
    perform(simulator, calls.key("agreed"))
    await calls.write("answered-later", "unknown", "failed")
    await calls.write("only-here", "succeeded")
    await calls.write("left-open", "failed", "unknown")
    perform(simulator, calls.key("only-there"))
    perform(simulator, calls.key("not-ours").replace(calls.environment, "elsewhere", 1))

    outcome = await ana_at(f"{simulator.url}/billing").run("reconcile", "external", "billing")

    assert outcome.exit_code == 3
    own = [finding for finding in outcome.data["findings"] if calls.tenant_id in finding["idempotency_key"]]
    assert {(finding["kind"], finding["idempotency_key"]) for finding in own} == {
        ("attempt-without-effect", calls.key("only-here")),
        ("effect-without-attempt", calls.key("only-there")),
        ("attempt-open", calls.key("left-open")),
    }
    run = await admin_connection.execute(
        "SELECT * FROM cpq.admin_run WHERE command = 'reconcile external' ORDER BY started_at DESC LIMIT 1"
    )
    row = await run.fetchone()
    assert row is not None
    assert row["detail"]["counts"] == outcome.data["counts"]


async def test_a_system_that_does_not_answer_is_named_and_not_taken_for_sound(
    ana_at: Callable[[str], Operator],
) -> None:
    outcome = await ana_at("http://127.0.0.1:1").run("reconcile", "external", "billing")

    assert outcome.exit_code == 1
    assert outcome.problems == ["billing: http://127.0.0.1:1 does not prove its environment: ConnectError"]
