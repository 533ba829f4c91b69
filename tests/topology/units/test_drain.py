"""`systemctl stop` finishes what was begun: nothing in flight is lost or done twice."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.support.api_client import ApiClient
from tests.support.released_host import ReleasedHost

API = "cpq-oms-api.service"
WORKER = "cpq-oms-worker@fulfillment.service"
SIMULATOR = "cpq-oms-simulator.service"
SYSTEMS = ("inventory", "provisioning", "billing")
SLOW = "PT3S"

pytestmark = pytest.mark.usefixtures("restored")


@pytest.fixture
def client(host: ReleasedHost) -> Iterator[ApiClient]:
    client = ApiClient(host)
    yield client
    client.close()


@pytest.fixture
def restored(host: ReleasedHost) -> Iterator[None]:
    """Starts again whatever a test left stopped."""
    yield
    host.run(f"systemctl start {SIMULATOR} {API} {WORKER}")


@pytest.fixture
def database(host: ReleasedHost) -> Iterator[psycopg.Connection]:
    """A session of the schema's owner, whom row-level security does not limit."""
    url = f"postgresql://cpq_owner@{host.address}:5432/cpq"
    with psycopg.connect(url, password=host.secret("db_owner_password"), autocommit=True) as connection:
        yield connection


def test_request_in_flight_is_answered(host: ReleasedHost, client: ApiClient, database: psycopg.Connection) -> None:
    path = client.quote()
    quote_id = path.rpartition("/")[2]
    with ThreadPoolExecutor(max_workers=1) as background, database.transaction(force_rollback=True):
        database.execute("SELECT FROM cpq.quote WHERE quote_id = %s FOR UPDATE", [quote_id])
        waiting = background.submit(client.api.post, f"{path}/price")
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        host.wait_until(lambda: database.execute(blocked).fetchone() != (0,), "the request waits in the database")
        host.run(f"systemctl stop --no-block {API}")
        host.wait_until(lambda: host.unit(API)["ActiveState"] == "deactivating", "the API begins to stop")
        assert not waiting.done()
    answer = waiting.result()

    assert answer.status_code == 200
    host.wait_until(lambda: host.unit(API)["ActiveState"] == "inactive", "the API ends")
    assert host.unit(API)["Result"] == "success"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{host.address}:8080/health/live", timeout=2)
    host.run(f"systemctl start {API}")
    assert client.api.get(path).json()["state"] == "approved"


def test_job_in_flight_is_completed_and_done_once(
    host: ReleasedHost, client: ApiClient, database: psycopg.Connection
) -> None:
    def attempts(order_id: str) -> dict[str, list[str]]:
        rows = database.execute(
            "SELECT external_system, state FROM cpq.external_call_attempt WHERE order_id = %s ORDER BY prepared_at",
            [order_id],
        ).fetchall()
        return {system: [state for name, state in rows if name == system] for system, _ in rows}

    client.behave("provisioning", latency=SLOW)
    try:
        order_id = str(client.order()["id"])
        host.wait_until(
            lambda: attempts(order_id).get("provisioning") == ["prepared"], "the provisioning call is on its way"
        )
        host.run(f"systemctl stop {WORKER}")
    finally:
        client.behave("provisioning")

    assert host.unit(WORKER)["Result"] == "success"
    assert attempts(order_id)["provisioning"] == ["succeeded"]
    host.run(f"systemctl start {WORKER}")
    host.wait_until(
        lambda: client.api.get(f"/v1/orders/{order_id}").json()["state"] == "completed", "the order is completed"
    )
    assert attempts(order_id) == {name: ["succeeded"] for name in SYSTEMS}
    assert sorted(effect["system"] for effect in client.ledger(order_id)) == sorted(SYSTEMS)


def test_simulator_answers_what_it_began(host: ReleasedHost, client: ApiClient) -> None:
    client.behave("inventory", latency=SLOW)
    key = str(uuid.uuid4())
    token = host.run("cat /etc/cpq-oms/credentials/simulator/inventory-token").stdout
    with ThreadPoolExecutor(max_workers=1) as background:
        reservation = background.submit(
            client.simulator.post,
            "/inventory/v1/reservations",
            json={"orderId": key, "tenantId": "tests"},
            headers={"Authorization": f"Bearer {token}", "Idempotency-Key": key},
        )
        host.wait_until(
            lambda: bool(client.simulator.get("/control/ledger", params={"idempotencyKey": key}).json()["requests"]),
            "the reservation has arrived",
        )
        host.run(f"systemctl stop {SIMULATOR}")

    assert reservation.result().status_code == 201
