"""`systemctl stop` finishes what was begun: nothing in flight is lost or done twice."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from app.contracts.callbacks import SIGNATURE_HEADER, TIMESTAMP_HEADER, callback_path, signature, tenant_key
from app.messaging import cloudevents
from tests.support import daemons
from tests.support.api_client import TENANT, ApiClient
from tests.support.kafka import Kafka
from tests.support.released_host import ReleasedHost
from tests.support.services import find_services

API = "cpq-oms-api.service"
CALLBACK = "cpq-oms-callback.service"
CONSOLE = "cpq-oms-console.service"
WORKER = "cpq-oms-worker@fulfillment.service"
STARTER = "cpq-oms-worker@starter.service"
REACTIONS = "cpq-oms-worker@reactions.service"
SIMULATOR = "cpq-oms-simulator.service"
ENGINE = "zeebe.service"
RELAY = "cpq-oms-relay.service"
GROUP = "order-projection"
CONSUMER = f"cpq-oms-consumer@{GROUP}.service"
# Groups of consumers share one loop, groups of workers do not.
DRAINED = (SIMULATOR, API, CALLBACK, CONSOLE, WORKER, STARTER, REACTIONS, RELAY, CONSUMER)
TOPIC = "oms.order.events.v1"
ORDERS = 800
# Three events of each of many orders that there are not, as the platform would write them, with a mark by which to find them.
EVENTS = """
    INSERT INTO cpq.outbox_event (event_id, tenant_id, aggregate_type, aggregate_id, aggregate_seq, event_type, topic,
        partition_key, payload, shard, occurred_at)
    SELECT event_id, 'acme-telecom', 'product_order', order_id, seq, type, %(topic)s, order_id::text,
        jsonb_build_object('eventId', event_id, 'eventType', type, 'tenantId', 'acme-telecom', 'orderId', order_id,
            'quoteId', order_id, 'customerId', %(mark)s::text, 'aggregateSeq', seq, 'state', state, 'currency', 'EUR',
            'totalOneTime', '1.00', 'totalRecurring', '1.00', 'occurredAt', '2026-01-01T00:00:00+00:00')::text,
        number %% 16, now()
    FROM (SELECT number, gen_random_uuid() AS order_id FROM generate_series(1, %(orders)s) AS number) AS planted,
        LATERAL (SELECT gen_random_uuid() AS event_id, seq, type, state FROM (VALUES (1, 'OrderAcknowledged', 'acknowledged'),
            (2, 'OrderInProgress', 'inProgress'), (3, 'OrderCompleted', 'completed')) AS step (seq, type, state)
            WHERE number > 0) AS events
    RETURNING event_id
"""
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
    host.run(f"systemctl start {' '.join(DRAINED)}")


@pytest.fixture
def database(host: ReleasedHost) -> Iterator[psycopg.Connection]:
    """A session of the schema's owner, whom row-level security does not limit."""
    url = f"postgresql://cpq_owner@{host.address}:5432/cpq"
    with psycopg.connect(url, password=host.secret("db_owner_password"), autocommit=True) as connection:
        yield connection


@dataclass(frozen=True)
class Stream:
    """Events of the test's own: where each of them has got to."""

    database: psycopg.Connection
    event_ids: frozenset[uuid.UUID]

    def published(self) -> set[uuid.UUID]:
        """Those that the outbox says are in the topic."""
        return self._ids("SELECT event_id FROM cpq.outbox_event WHERE event_id = ANY(%s) AND state = 'published'")

    def applied(self) -> dict[uuid.UUID, tuple[int, int]]:
        """Partition and offset of those that the group's inbox has."""
        query = (
            "SELECT event_id, kafka_partition, kafka_offset FROM cpq.inbox_event"
            " WHERE event_id = ANY(%s) AND consumer_group = %s"
        )
        rows = self.database.execute(query, [list(self.event_ids), GROUP]).fetchall()
        return {event_id: (partition, offset) for event_id, partition, offset in rows}

    def positions(self) -> dict[int, int]:
        """The group's next offset of each partition."""
        query = "SELECT kafka_partition, next_offset FROM cpq.consumer_offset WHERE consumer_group = %s AND topic = %s"
        return dict(self.database.execute(query, [GROUP, TOPIC]).fetchall())

    def in_topic(self) -> list[tuple[uuid.UUID, int, int]]:
        """Event, partition and offset of every record of theirs, as anybody may read them from Kafka."""
        records = [(cloudevents.decode(record.headers), record) for record in Kafka(find_services()).records(TOPIC)]
        return [
            (attributes.event_id, record.partition.number, record.offset)
            for attributes, record in records
            if attributes.event_id in self.event_ids
        ]

    def _ids(self, query: str) -> set[uuid.UUID]:
        return {row[0] for row in self.database.execute(query, [list(self.event_ids)])}


@pytest.fixture
def begin_stream(database: psycopg.Connection) -> Iterator[Callable[[], Stream]]:
    """Commits many events at once; their projections go again at the end."""
    mark = f"stream-{uuid.uuid4().hex[:8]}"

    def begin() -> Stream:
        rows = database.execute(EVENTS, {"topic": TOPIC, "mark": mark, "orders": ORDERS}).fetchall()
        return Stream(database, frozenset(row[0] for row in rows))

    yield begin
    database.execute("DELETE FROM cpq.order_projection WHERE customer_id = %s", [mark])


def test_every_daemon_is_stopped_in_some_test() -> None:
    assert set(DRAINED) <= set(daemons.ALL)
    assert [unit for unit, services in daemons.BY_UNIT.items() if not set(services) & set(DRAINED)] == []
    assert set(daemons.BY_UNIT["worker"]) <= set(DRAINED)


def test_relay_stops_between_two_batches(host: ReleasedHost, begin_stream: Callable[[], Stream]) -> None:
    stream = begin_stream()
    host.wait_until(lambda: bool(stream.published()), "the relay publishes")
    host.run(f"systemctl stop {RELAY}")

    assert host.unit(RELAY)["Result"] == "success"
    published = stream.published()
    assert len(published) < len(stream.event_ids), "the stop came too late to say anything"
    # What Kafka has is marked, and what is marked Kafka has: nothing will be sent again.
    assert sorted(event_id for event_id, _, _ in stream.in_topic()) == sorted(published)

    host.run(f"systemctl start {RELAY}")
    host.wait_until(lambda: stream.published() == stream.event_ids, "every event is published")
    assert sorted(event_id for event_id, _, _ in stream.in_topic()) == sorted(stream.event_ids)


def test_consumer_stops_between_two_transactions(host: ReleasedHost, begin_stream: Callable[[], Stream]) -> None:
    host.run(f"systemctl stop {CONSUMER}")
    stream = begin_stream()
    host.wait_until(lambda: stream.published() == stream.event_ids, "every event is published")
    host.run(f"systemctl start {CONSUMER}")
    host.wait_until(lambda: bool(stream.applied()), "the consumer applies")
    host.run(f"systemctl stop {CONSUMER}")

    assert host.unit(CONSUMER)["Result"] == "success"
    applied, positions, records = stream.applied(), stream.positions(), stream.in_topic()
    assert len(applied) < len(stream.event_ids), "the stop came too late to say anything"
    # The inbox has exactly what lies before the stored positions.
    before = {
        event: (partition, offset) for event, partition, offset in records if offset < positions.get(partition, 0)
    }
    assert applied == before

    host.run(f"systemctl start {CONSUMER}")
    host.wait_until(lambda: len(stream.applied()) == len(stream.event_ids), "every event is applied")
    assert stream.applied() == {event: (partition, offset) for event, partition, offset in records}


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
    # Calls of the process's steps alone: reactions to the order's events call out beside it, in their own time.
    steps = (
        "SELECT external_system, attempt.state, idempotency_key FROM cpq.external_call_attempt AS attempt "
        "JOIN cpq.fulfillment_task USING (order_id, step) WHERE order_id = %s ORDER BY prepared_at"
    )

    def attempts(order_id: str) -> dict[str, list[str]]:
        rows = database.execute(steps, [order_id]).fetchall()
        return {system: [state for name, state, _ in rows if name == system] for system, _, _ in rows}

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
    keys = {key for _, _, key in database.execute(steps, [order_id]).fetchall()}
    effects = [effect["system"] for effect in client.ledger(order_id) if effect["idempotencyKey"] in keys]
    assert sorted(effects) == sorted(SYSTEMS)


def test_callback_in_flight_is_answered_and_written_down_once(
    host: ReleasedHost, client: ApiClient, database: psycopg.Connection
) -> None:
    order_id = str(client.order()["id"])
    sent = (
        "SELECT idempotency_key FROM cpq.external_call_attempt JOIN cpq.fulfillment_task USING (order_id, step) "
        "WHERE order_id = %s AND external_system = 'provisioning' AND external_call_attempt.state = 'succeeded'"
    )
    host.wait_until(lambda: database.execute(sent, [order_id]).fetchone() is not None, "the step has called out")
    (key,) = database.execute(sent, [order_id]).fetchone() or ("",)
    document = {
        "callbackId": f"drain-{order_id}",
        "idempotencyKey": key,
        "orderId": order_id,
        "id": "provisioning-elsewhere",
        "outcome": "done",
        "occurredAt": "2026-01-01T00:00:00+00:00",
    }
    secret = host.run("cat /etc/cpq-oms/credentials/callback/provisioning-callback-secret").stdout
    body, stamp = json.dumps(document).encode(), int(time.time())
    proof = {
        TIMESTAMP_HEADER: str(stamp),
        SIGNATURE_HEADER: signature(tenant_key(secret, "provisioning", TENANT), stamp, body),
    }
    url = f"http://{host.address}:8085{callback_path('provisioning', TENANT)}"
    with ThreadPoolExecutor(max_workers=1) as background, database.transaction(force_rollback=True):
        database.execute("LOCK TABLE cpq.external_callback IN SHARE MODE")
        waiting = background.submit(httpx.post, url, content=body, headers=proof, timeout=30)
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        host.wait_until(lambda: database.execute(blocked).fetchone() != (0,), "the callback waits in the database")
        host.run(f"systemctl stop --no-block {CALLBACK}")
        host.wait_until(lambda: host.unit(CALLBACK)["ActiveState"] == "deactivating", "the receiver begins to stop")
        assert not waiting.done()
    answer = waiting.result()

    assert (answer.status_code, answer.json()["result"]) == (200, "recorded")
    host.wait_until(lambda: host.unit(CALLBACK)["ActiveState"] == "inactive", "the receiver ends")
    assert host.unit(CALLBACK)["Result"] == "success"
    host.run(f"systemctl start {CALLBACK}")
    assert httpx.post(url, content=body, headers=proof, timeout=30).json()["result"] == "repeated"
    written = "SELECT count(*) FROM cpq.external_callback WHERE callback_id = %s"
    assert database.execute(written, [document["callbackId"]]).fetchone() == (1,)


def test_start_in_flight_is_recorded_and_made_once(
    host: ReleasedHost, client: ApiClient, database: psycopg.Connection
) -> None:
    def reference(order_id: str) -> tuple[str, int]:
        query = "SELECT state, start_attempts FROM cpq.workflow_reference WHERE order_id = %s"
        state, attempts = database.execute(query, [order_id]).fetchone() or ("", 0)
        return state, attempts

    host.run(f"systemctl kill --signal=STOP {ENGINE}")
    try:
        order_id = str(client.order()["id"])
        host.wait_until(lambda: reference(order_id) == ("pending", 1), "the engine has been asked")
        host.run(f"systemctl stop --no-block {STARTER}")
        host.wait_until(lambda: host.unit(STARTER)["ActiveState"] == "deactivating", "the starter begins to stop")
    finally:
        host.run(f"systemctl kill --signal=CONT {ENGINE}")
    host.wait_until(lambda: host.unit(STARTER)["ActiveState"] == "inactive", "the starter ends")

    assert host.unit(STARTER)["Result"] == "success"
    # The engine may be ahead of the starter's own note.
    assert reference(order_id) in {("started", 1), ("completed", 1)}
    assert order_id in host.journal(STARTER)
    host.run(f"systemctl start {STARTER}")
    host.wait_until(
        lambda: client.api.get(f"/v1/orders/{order_id}").json()["state"] == "completed", "the order is completed"
    )
    assert reference(order_id)[1] == 1


def test_reaction_in_flight_is_recorded_and_made_once(
    host: ReleasedHost, client: ApiClient, database: psycopg.Connection
) -> None:
    calls = (
        "SELECT idempotency_key, state FROM cpq.external_call_attempt "
        "WHERE order_id = %s AND external_system = 'notification' ORDER BY prepared_at"
    )

    def keys(state: str) -> set[str]:
        return {key for key, known in database.execute(calls, [order_id]) if known == state}

    client.behave("notification", latency="PT2S")
    try:
        order_id = str(client.order()["id"])
        host.wait_until(lambda: bool(keys("prepared")), "a message is on its way")
        begun = keys("prepared")
        host.run(f"systemctl stop {REACTIONS}")
    finally:
        client.behave("notification")

    assert host.unit(REACTIONS)["Result"] == "success"
    assert begun
    assert begun <= keys("succeeded")
    host.run(f"systemctl start {REACTIONS}")
    done = "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FROM cpq.reaction WHERE order_id = %s"
    # Two messages to the customer, one bill.
    host.wait_until(lambda: database.execute(done, [order_id]).fetchone() == (3, 3), "every reaction is carried out")
    made = [key for key, _ in database.execute(calls, [order_id])]
    effects = [effect["idempotencyKey"] for effect in client.ledger(order_id) if effect["system"] == "notification"]
    assert sorted(effects) == sorted(made) == sorted(set(made))


def test_console_stops_as_it_should(host: ReleasedHost) -> None:
    host.wait_until(lambda: host.is_active(CONSOLE), "the console serves")
    host.run(f"systemctl stop {CONSOLE}")

    # It only reads, so there is nothing that it could leave half done.
    assert host.unit(CONSOLE)["Result"] == "success"
    assert host.unit(CONSOLE)["ExecMainStatus"] == "0"


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
