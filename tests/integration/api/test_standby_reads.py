"""Declared queries beside a standby that falls behind, on two real servers: nothing older than declared is read, and commands go on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.adapters.postgres.catalog_seed import seed
from app.adapters.postgres.pool import Connection
from app.contracts.loader import load_standby_reads
from tests.integration.api.conftest import PATIENCE_S, ApiProcess, Issuer, StartApi
from tests.support.builders import fiber, published
from tests.support.released_host import find_host
from tests.support.services import Services
from tests.support.standby_pair import StandbyPair, standby_pair
from tests.support.waiting import eventually

QUOTE = {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 10}]}
BOUND_S = load_standby_reads("api")["order"].staleness.total_seconds()


@pytest.fixture(scope="module")
def pair(schema: None) -> Iterator[StandbyPair]:  # noqa: ARG001 (its schema is copied)
    with standby_pair(find_host()) as started:
        yield started


class Client:
    """A client of an API that may read the standby, and what that API counts."""

    def __init__(self, pair: StandbyPair, api: ApiProcess, http: httpx.Client) -> None:
        self._pair, self._api, self._http = pair, api, http

    def order(self) -> str:
        """Take a quote to an order and return its path."""
        path = self._post("/v1/quotes", json=QUOTE, headers={"Idempotency-Key": str(uuid.uuid4())}).headers["Location"]
        tag = self._post(f"{path}/price").headers["ETag"]
        tag = self._post(f"{path}/accept", headers={"If-Match": tag}).headers["ETag"]
        headers = {"Idempotency-Key": str(uuid.uuid4()), "If-Match": tag}
        return str(self._post(f"{path}/convert", headers=headers).headers["Location"])

    def state(self, order: str) -> str:
        """The state that the API shows of an order."""
        return str(self._http.get(order).raise_for_status().json()["state"])

    def change(self, order: str, state: str) -> None:
        """Change an order's state on the primary, as a worker would."""
        order_id = order.rpartition("/")[2]
        self._pair.on_primary(f"UPDATE cpq.product_order SET state = '{state}' WHERE order_id = '{order_id}'")

    def counted(self, figure: str, **labels: str) -> float:
        """A figure of the API's, zero before it is first counted."""
        text = httpx.get(f"{self._api.internal}/metrics").raise_for_status().text
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(one.value for one in samples if one.name == figure and labels.items() <= one.labels.items())

    def from_standby(self) -> float:
        """How many orders a standby has shown."""
        return self.counted("cpq_db_reads_total", query="order", server="standby")

    def fallbacks(self, reason: str) -> float:
        """How many orders the primary showed for a reason."""
        return self.counted("cpq_db_read_fallbacks_total", query="order", reason=reason)

    async def standby_answers(self, order: str) -> None:
        """Return when a standby shows an order."""
        before = self.from_standby()

        async def answers() -> bool:
            self.state(order)
            return self.from_standby() > before

        await eventually(answers, "the standby answers")

    def _post(self, path: str, **arguments: object) -> httpx.Response:
        answer = self._http.post(path, **arguments)  # type: ignore[arg-type]
        assert answer.is_success, f"{path}: {answer.text}\n{self._api.log.read_text()}"
        return answer


@pytest.fixture
async def client(
    pair: StandbyPair, services: Services, start_api: StartApi, issuer: Issuer, tenant_id: str
) -> AsyncIterator[Client]:
    connection: Connection = await AsyncConnection.connect(
        pair.primary_url("cpq_admin"),
        password=services.secret("db_admin_password"),
        autocommit=True,
        row_factory=dict_row,
    )
    async with connection:
        await seed(connection, [published(tenant_id, [fiber()])], "tests")
    api = start_api(API_WORKERS="1", DB_URL=pair.primary_url("cpq_api"), DB_READ_URL=pair.read_url("cpq_api"))
    assert api.wait_for("READY=1"), api.log.read_text()
    headers = {"Authorization": f"Bearer {issuer.token(tenant_id)}"}
    with httpx.Client(base_url=api.http, headers=headers, timeout=PATIENCE_S) as http:
        yield Client(pair, api, http)


async def test_replay_that_stands_still_makes_no_answer_older_than_declared_and_stops_no_command(
    pair: StandbyPair, client: Client
) -> None:
    order = client.order()
    assert client.state(order) == "acknowledged", "a client finds what it has just made"
    await client.standby_answers(order)

    pair.pause_replay()
    try:
        client.change(order, "held")
        threading.Event().wait(BOUND_S)
        assert client.state(order) == "held"
        assert client.fallbacks("stale") > 0
        assert client.state(client.order()) == "acknowledged", "commands go on, and what they made is found"
    finally:
        pair.resume_replay()

    await client.standby_answers(order)
    assert client.state(order) == "held"


async def test_what_the_standby_does_not_have_yet_is_found_on_the_primary(pair: StandbyPair, client: Client) -> None:
    await client.standby_answers(client.order())
    pair.pause_replay()
    try:
        assert client.state(client.order()) == "acknowledged"
        assert client.fallbacks("absent") + client.fallbacks("stale") > 0
    finally:
        pair.resume_replay()


async def test_reads_go_on_without_the_standby(pair: StandbyPair, client: Client) -> None:
    order = client.order()
    await client.standby_answers(order)
    pair.stop_standby()
    client.change(order, "held")

    assert client.state(order) == "held"
    assert client.fallbacks("unavailable") > 0
