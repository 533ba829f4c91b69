"""The real engine and database, external systems of the tests' own, and workers that tests start, stop and kill."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyzeebe import ZeebeClient
from pyzeebe.grpc_internals.zeebe_adapter import ZeebeAdapter

from app.adapters.postgres.guard_states import reset_guard
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.adapters.zeebe.channel import open_channel
from app.adapters.zeebe.operations import EngineOperations
from app.adapters.zeebe.process_definitions import read_definitions
from app.contracts.loader import load_external_systems, load_job_types, load_processes
from app.domain.values import OrderId
from app.runtime.release import installed_release
from tests.integration.conftest import OpenPool
from tests.support.event_fixtures import own_epochs, owner_connection
from tests.support.orders import place_order, publish_catalog
from tests.support.services import Services
from tests.support.tcp_proxy import TcpProxy
from tests.support.unit_process import UnitProcess, free_port
from tests.support.waiting import eventually

__all__ = ["own_epochs", "owner_connection"]

BPMN = Path(__file__).resolve().parents[3] / "bpmn"
SYSTEMS = load_external_systems()


class Simulator:
    """A simulator process and its controls."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.credentials = {
            name: f"{name}-of-tests"
            for name in (
                "issuer-client-secret",
                *(policy.credential for policy in SYSTEMS.values()),
                *(policy.callback.secret for policy in SYSTEMS.values() if policy.callback.secret),
            )
        }
        self._settings = {
            "HTTP_BIND": f"127.0.0.1:{self.port}",
            "ISSUER_URL": f"{self.url}/issuer",
            "AUTH_AUDIENCE": "cpq-oms",
            "EXTERNAL_ENVIRONMENT": "non-production",
            "SIMULATOR_BEHAVIOURS": "",
            "STATE_DIRECTORY": str(folder),
        }
        self.process = self.start()

    def start(self) -> UnitProcess:
        """Start the process, again after it was killed."""
        self.process = UnitProcess("simulator", self._settings, self.credentials).wait_ready()
        return self.process

    def behave(self, system: str, **behaviour: object) -> None:
        """Set how a system behaves from now on; nothing means healthy."""
        self.control("PUT", f"behaviours/{system}", behaviour)

    def add_rule(self, system: str, **behaviour: object) -> None:
        """Add a rule for some of a system's calls."""
        self.control("POST", f"behaviours/{system}", behaviour)

    def control(self, method: str, path: str, document: object) -> None:
        """Use a control of the simulator."""
        request = urllib.request.Request(
            f"{self.url}/control/{path}",
            json.dumps(document).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        urllib.request.urlopen(request, timeout=5).close()

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that was done, asked and called back."""
        with urllib.request.urlopen(f"{self.url}/control/ledger", timeout=5) as response:
            ledger: dict[str, list[dict[str, Any]]] = json.load(response)
        return ledger

    def effects(self, order_id: OrderId) -> list[str]:
        """The systems that did something for an order, one entry per effect."""
        with urllib.request.urlopen(f"{self.url}/control/ledger?orderId={order_id}", timeout=5) as response:
            return [effect["system"] for effect in json.load(response)["effects"]]

    def requests(self, order_id: OrderId, method: str = "POST") -> list[str]:
        """The systems that were asked by POST (or GET) for an order, one entry per request, oldest first."""
        with urllib.request.urlopen(f"{self.url}/control/ledger", timeout=5) as response:
            return [
                request["system"]
                for request in json.load(response)["requests"]
                if str(order_id) in request["idempotencyKey"] and request["method"] == method
            ]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    """External systems of this test's own."""
    simulator = Simulator(tmp_path)
    yield simulator
    simulator.process.close()


@pytest.fixture(autouse=True)
async def _closed_breakers(admin_connection: Connection) -> None:
    """No breaker or pause of an earlier test meets this one's calls."""
    for system in SYSTEMS:
        await reset_guard(admin_connection, system)


@pytest.fixture
def engine_proxy(services: Services) -> Iterator[TcpProxy]:
    """A way to the engine that can be disturbed."""
    with TcpProxy(services.address("zeebe")) as proxy:
        yield proxy


StartWorker = Callable[..., UnitProcess]


@pytest.fixture
def start_worker(
    services: Services,
    schema: None,  # noqa: ARG001 (wanted for what it does)
    simulator: Simulator,
    engine_proxy: TcpProxy,
) -> Iterator[StartWorker]:
    """Starts workers: `start_worker("starter")`, `start_worker("fulfillment", EXTERNAL_TIMEOUT="PT1S")`."""
    started: list[UnitProcess] = []

    def start(
        group: str, *, is_awaited: bool = True, watchdog_seconds: float | None = None, **changes: str
    ) -> UnitProcess:
        settings = {
            "APP_INSTANCE_ID": f"tests-{group}",
            "WORKER_GROUP": group,
            "WORKER_ENABLED_TYPES": ",".join(load_job_types().of_group(group)),
            "WORKER_MAX_JOBS_ACTIVE": "32",
            "WORKER_THREADS": "64",
            "WORKER_TIMEOUT": "PT30S",
            "WORKER_POLL_INTERVAL": "PT0.5S",
            "WORKER_REQUEST_TIMEOUT": "PT2S",
            "WORKER_MAX_RUNS": "5",
            "DB_URL": services.database_url("worker"),
            "DB_POOL_MAX": "8",
            "DB_STATEMENT_TIMEOUT": "PT5S",
            "CAMUNDA_GRPC_ADDRESS": engine_proxy.address,
            "EXTERNAL_TIMEOUT": "PT3S",
            "EXTERNAL_ENVIRONMENT": "non-production",
            "CALLBACK_URL": "http://127.0.0.1:9",
            **{policy.endpoint.setting: f"{simulator.url}/{system}" for system, policy in SYSTEMS.items()},
        }
        credentials = {
            "db-password": services.secret("db_worker_password"),
            **{policy.credential: simulator.credentials[policy.credential] for policy in SYSTEMS.values()},
        }
        worker = UnitProcess("worker", settings | changes, credentials, watchdog_seconds)
        started.append(worker)
        return worker.wait_ready() if is_awaited else worker

    yield start
    for worker in started:
        worker.terminate()  # so that each takes its registration with it
    for worker in started:
        worker.wait()
        worker.close()


@dataclass(frozen=True)
class Orders:
    """Orders of this test's tenant."""

    place: Callable[[], Awaitable[OrderId]]
    connection: Connection

    async def row(self, query: str, order_id: OrderId) -> dict[str, Any]:
        """The first row of a query about an order."""
        row = await (await self.connection.execute(query, {"order_id": order_id})).fetchone()
        assert row is not None
        return dict(row)

    async def rows(self, query: str, order_id: OrderId) -> list[dict[str, Any]]:
        """All rows of a query about an order."""
        return [dict(row) for row in await (await self.connection.execute(query, {"order_id": order_id})).fetchall()]

    async def reference(self, order_id: OrderId) -> dict[str, Any]:
        """The order's workflow reference."""
        return await self.row("SELECT * FROM cpq.workflow_reference WHERE order_id = %(order_id)s", order_id)

    async def state(self, order_id: OrderId) -> str:
        """The order's state."""
        row = await self.row("SELECT state FROM cpq.product_order WHERE order_id = %(order_id)s", order_id)
        return str(row["state"])

    async def attempts(self, order_id: OrderId, step: str) -> list[str]:
        """States of the calls of a step, oldest first."""
        rows = await self.rows(
            "SELECT step, state FROM cpq.external_call_attempt WHERE order_id = %(order_id)s ORDER BY attempt_no",
            order_id,
        )
        return [row["state"] for row in rows if row["step"] == step]

    async def completed(self, *order_ids: OrderId, seconds: float = 30.0) -> None:
        """Return when the orders are completed."""
        for order_id in order_ids:

            async def is_completed(order_id: OrderId = order_id) -> bool:
                return await self.state(order_id) == "completed"

            await eventually(is_completed, f"order {order_id} is completed", seconds)


@pytest.fixture
async def orders(open_pool: OpenPool, admin_connection: Connection, tenant_id: str) -> Orders:
    """Places orders for a tenant of this test's own, and looks at them as an operator would."""
    await publish_catalog(admin_connection, tenant_id)
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))

    async def place() -> OrderId:
        return await place_order(open_unit_of_work, tenant_id)

    return Orders(place, admin_connection)


@pytest.fixture(autouse=True)
async def _process_deployed(services: Services, admin_connection: Connection) -> None:
    """The engine has the processes, and the database knows it; the same content again changes nothing."""
    definitions = {item.process_id: item for item in read_definitions(BPMN, load_processes())}
    async with open_channel(services.address("zeebe")) as channel:
        answers = await EngineOperations(channel).deploy([item.file for item in definitions.values()])
    for answer in answers:
        await ProcessDeployments(admin_connection).record(
            definitions[answer.process_id].as_deployed(answer.version, answer.key, installed_release())
        )


@pytest.fixture(autouse=True)
async def _own_orders(services: Services, admin_connection: Connection, _process_deployed: None) -> None:
    """No order of an earlier test waits for a starter or, its process begun, for a worker."""
    await admin_connection.execute("UPDATE cpq.workflow_reference SET state = 'failed' WHERE state = 'pending'")
    async with open_channel(services.address("zeebe")) as channel:
        client, adapter = ZeebeClient(channel), ZeebeAdapter(channel)
        for job_type in load_job_types().job_types:
            # A request time-out below zero: the jobs that are there, without waiting for more.
            waiting = adapter.activate_jobs(job_type, "tests", 60_000, 1000, [], -1)
            for instance in {job.process_instance_key async for job in waiting}:
                await client.cancel_process_instance(instance)
