"""Each declared system, through its adapter, against the simulator as a process: one effect per key, and it can be asked for."""

from __future__ import annotations

import uuid
from datetime import timedelta

import httpx
import pytest

from app.adapters.http.external_system import HttpExternalSystem, new_client
from app.adapters.http.proven_endpoint import ProvenEndpoint
from app.application.ports import CallDone, CallNotDone, CallUnknown
from app.contracts.loader import load_external_systems
from app.runtime.clock import SystemClock
from tests.integration.simulator.conftest import StartSimulator
from tests.integration.simulator.test_process import call

SYSTEMS = load_external_systems()


@pytest.mark.parametrize("name", sorted(SYSTEMS))
async def test_a_system_keeps_the_contract(start: StartSimulator, port: int, name: str) -> None:
    start().wait_ready()
    policy, base_url = SYSTEMS[name], f"http://127.0.0.1:{port}/{name}"
    order_id = str(uuid.uuid4())
    key, request = f"ci:acme:{order_id}:step:1", {"orderId": order_id, "tenantId": "acme"}

    def adapter(client: httpx.AsyncClient, token: str) -> ProvenEndpoint:
        system = HttpExternalSystem(
            client,
            name,
            policy,
            base_url=base_url,
            token=token,
            callback_url="http://127.0.0.1:9",
            timeout=lambda: timedelta(seconds=5),
        )
        return ProvenEndpoint(client, name, system, base_url=base_url, expected="non-production", clock=SystemClock())

    async with new_client() as client:
        system = adapter(client, policy.credential)
        assert isinstance(await system.find(key), CallNotDone)
        assert isinstance(await adapter(client, "wrong").call(key, request), CallNotDone)
        if policy.sandbox.answers == "accepted":
            accepted = await system.call(key, request)
            assert isinstance(accepted, CallUnknown)
            assert accepted.retry_after == policy.retry.shortest_pause
        call(port, f"/control/behaviours/{name}", "PUT", {"answers": "done"})
        other = f"ci:acme:{order_id}:step:2"
        done = [await system.call(other, request) for _ in range(2)]
        found = await system.find(other)

    assert all(isinstance(outcome, CallDone) for outcome in (*done, found))
    assert len({outcome.reference for outcome in (*done, found)}) == 1  # type: ignore[union-attr]
