from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from app.adapters.postgres.catalog_seed import seed
from app.adapters.postgres.pool import Connection
from tests.integration.api.conftest import PATIENCE_S, ApiProcess, Issuer, StartApi
from tests.support.builders import fiber, published
from tests.support.services import Services
from tests.support.tcp_proxy import TcpProxy

WATCHDOG_S = 3
QUOTE = {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 10}]}


@pytest.fixture
async def catalog(admin_connection: Connection, tenant_id: str) -> None:
    await seed(admin_connection, [published(tenant_id, [fiber()])], "tests")


class HeldQuote:
    """A quote's row, locked by a transaction outside the API."""

    def __init__(self, services: Services, quote_id: str) -> None:
        self._connection = psycopg.connect(
            services.database_url("owner"), password=services.secret("db_owner_password")
        )
        self._connection.execute("SELECT FROM cpq.quote WHERE quote_id = %s FOR UPDATE", [quote_id])

    def wait_for_somebody(self) -> None:
        """Return when another session waits for the row."""
        for _ in range(200):
            row = self._connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
            if row and row[0]:
                return
            threading.Event().wait(0.02)
        raise AssertionError("nobody waits for the row")

    def release(self) -> None:
        self._connection.rollback()
        self._connection.close()


@pytest.fixture
def in_background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=20) as executor:
        yield executor


def create(client: httpx.Client, key: str = "k-1") -> str:
    answer = client.post("/v1/quotes", json=QUOTE, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["href"])


def test_ready_comes_when_every_worker_serves(start_api: StartApi) -> None:
    api = start_api(API_WORKERS="3")

    assert api.wait_for("READY=1"), api.log.read_text()
    assert len(api.workers()) == 3
    assert httpx.get(f"{api.http}/health/startup").status_code == 200


STAGGERED_FAILURES = """
import os, signal, time, types
def build(*_arguments, **_options):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(os.getpid() % 4 * 0.4)
    raise ImportError("no such module")
wiring = types.ModuleType("wiring")
wiring.build = build
sys.modules["app.entrypoints.api.wiring"] = wiring
"""


@pytest.mark.parametrize(
    "prelude",
    [
        STAGGERED_FAILURES,
        "sys.modules['app.adapters.redis.catalog_cache'] = None",
        "import app.contracts.loader as l; l.load = lambda: 1 / 0",
    ],
    ids=["one-after-the-other", "import", "wiring"],
)
def test_an_application_that_cannot_be_loaded_ends_the_start(start_api: StartApi, prelude: str) -> None:
    api = start_api(prelude)

    assert not api.wait_for("READY=1")
    assert api.process.wait(PATIENCE_S) == 3
    assert api.log.read_text().count("Booting worker") <= 2


@pytest.mark.parametrize("url", ["postgresql://cpq_api@127.0.0.1:1/cpq", None], ids=["no-server", "wrong-password"])
def test_a_failing_start_up_check_ends_the_start(
    start_api: StartApi, services: Services, tmp_path: Path, url: str | None
) -> None:
    if url is None:
        if _accepts_any_password(services):
            pytest.skip("this server trusts every local client")
        (tmp_path / "credentials" / "db-password").write_text("wrong")
    api = start_api(**({"DB_URL": url} if url else {}))

    assert not api.wait_for("READY=1")
    assert api.process.wait(PATIENCE_S) == 3
    assert api.log.read_text().count("Booting worker") <= 2


def _accepts_any_password(services: Services) -> bool:
    try:
        psycopg.connect(services.database_url("api"), password="wrong").close()
    except psycopg.OperationalError:
        return False
    return True


def test_wrong_settings_end_with_78_and_name_each(start_api: StartApi) -> None:
    api = start_api(API_WORKERS="none", DB_STATEMENT_TIMEOUT="5")

    assert api.process.wait(PATIENCE_S) == 78
    assert [line.split(":")[0] for line in api.log.read_text().splitlines()] == ["DB_STATEMENT_TIMEOUT", "API_WORKERS"]


def test_an_idle_service_feeds_the_watchdog(start_api: StartApi) -> None:
    api = start_api(WATCHDOG_USEC=str(WATCHDOG_S * 1_000_000))
    assert api.wait_for("READY=1")

    fed = [message for message in api.messages_within(2 * WATCHDOG_S) if message == "WATCHDOG=1"]

    assert len(fed) >= 4


def test_one_blocked_event_loop_starves_the_watchdog(start_api: StartApi) -> None:
    api = start_api(WATCHDOG_USEC=str(WATCHDOG_S * 1_000_000))
    assert api.wait_for("READY=1")

    os.kill(api.workers()[0], signal.SIGSTOP)
    api.messages_within(WATCHDOG_S / 2)

    assert "WATCHDOG=1" not in api.messages_within(WATCHDOG_S)


def test_a_worker_that_dies_is_replaced_and_the_watchdog_fed(start_api: StartApi) -> None:
    api = start_api(WATCHDOG_USEC=str(WATCHDOG_S * 1_000_000))
    assert api.wait_for("READY=1")
    before = set(api.workers())

    os.kill(min(before), signal.SIGKILL)

    assert api.messages_within(2 * WATCHDOG_S).count("WATCHDOG=1") >= 3
    assert len(api.workers()) == 2
    assert set(api.workers()) != before
    assert httpx.get(f"{api.http}/health/ready").status_code == 200


@pytest.mark.usefixtures("catalog")
def test_sigterm_lets_a_request_in_flight_finish(
    serving: ApiProcess, client: httpx.Client, services: Services, in_background: ThreadPoolExecutor
) -> None:
    path = create(client)
    held = HeldQuote(services, path.rpartition("/")[2])
    answer: Future[httpx.Response] = in_background.submit(client.post, f"{path}/price")
    held.wait_for_somebody()

    serving.process.terminate()
    assert serving.wait_for("STOPPING=1")
    held.release()

    assert answer.result(PATIENCE_S).status_code == 200
    assert serving.process.wait(PATIENCE_S) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{serving.http}/health/live")


@pytest.mark.usefixtures("catalog")
def test_a_row_locked_by_others_is_503_and_then_works(client: httpx.Client, services: Services) -> None:
    path = create(client)
    held = HeldQuote(services, path.rpartition("/")[2])

    while_held = client.post(f"{path}/price")
    held.release()
    afterwards = client.post(f"{path}/price")

    assert (while_held.status_code, while_held.json()["code"]) == (503, "temporarily-unavailable")
    assert while_held.headers["retry-after"] == "1"
    assert afterwards.status_code == 200


@pytest.mark.usefixtures("catalog")
def test_many_requests_of_one_key_make_one_order(client: httpx.Client, in_background: ThreadPoolExecutor) -> None:
    path = create(client)
    priced = client.post(f"{path}/price")
    client.post(f"{path}/accept", headers={"If-Match": priced.headers["etag"]})

    def convert(key: str = "c-1") -> httpx.Response:
        return client.post(f"{path}/convert", headers={"Idempotency-Key": key})

    answers = [each.result(PATIENCE_S) for each in [in_background.submit(convert) for _ in range(20)]]

    assert {answer.status_code for answer in answers} <= {201, 409}
    made = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in made}) == 1
    assert [answer.headers["idempotency-replayed"] for answer in made].count("false") == 1
    assert all(answer.json()["code"] == "request-in-flight" for answer in answers if answer.status_code == 409)
    assert convert().content == made[0].content
    assert made[0].json()["id"] in convert("another").json()["detail"]


@pytest.mark.usefixtures("catalog")
def test_metrics_add_up_the_workers(serving: ApiProcess, client: httpx.Client) -> None:
    for number in range(10):
        create(client, f"k-{number}")

    figures = httpx.get(f"{serving.internal}/metrics").text

    assert 'cpq_api_requests_total{method="POST",route="/v1/quotes",status="201"} 10.0' in figures
    assert httpx.get(f"{serving.http}/metrics").status_code == 404


def test_diagnostics_name_what_is_lost_while_the_service_stays_ready(start_api: StartApi) -> None:
    nowhere = "127.0.0.1:1"
    api = start_api(REDIS_URL=f"redis://api@{nowhere}/0", KAFKA_BOOTSTRAP_SERVERS=nowhere, CAMUNDA_GRPC_ADDRESS=nowhere)
    assert api.wait_for("READY=1"), api.log.read_text()

    document = httpx.get(f"{api.internal}/health/diagnostics").json()

    assert httpx.get(f"{api.http}/health/ready").status_code == 200
    assert document["status"] == "degraded"
    assert {each["name"] for each in document["dependencies"] if "lostAbility" in each} == {"redis", "kafka", "camunda"}


def test_without_its_database_the_service_is_not_ready_and_recovers_by_itself(
    start_api: StartApi, services: Services, issuer: Issuer, tenant_id: str
) -> None:
    with TcpProxy(services.address("postgresql")) as way:
        api = start_api(DB_URL=f"postgresql://cpq_api@{way.address}/cpq", DB_STATEMENT_TIMEOUT="PT2S")
        assert api.wait_for("READY=1"), api.log.read_text()
        headers = {"Authorization": f"Bearer {issuer.token(tenant_id)}"}

        def status(path: str) -> int:
            return httpx.get(f"{api.http}{path}", headers=headers, timeout=PATIENCE_S).status_code

        def becomes_ready() -> bool:
            return any(status("/health/ready") == 200 or threading.Event().wait(0.5) for _ in range(60))

        assert (status("/health/ready"), status("/v1/catalog/offerings")) == (200, 409)
        way.is_refusing = True
        way.cut()
        assert (status("/health/ready"), status("/v1/catalog/offerings")) == (503, 503)
        assert status("/health/live") == 200
        way.is_refusing = False
        assert becomes_ready()
        assert status("/v1/catalog/offerings") == 409  # the tenant has no catalog, and the database says so again


@pytest.mark.usefixtures("catalog")
def test_the_answers_are_the_same_without_redis(
    serving: ApiProcess, client: httpx.Client, start_api: StartApi, issuer: Issuer, tenant_id: str
) -> None:
    without = start_api(REDIS_URL="redis://api@127.0.0.1:1/0")
    assert without.wait_for("READY=1"), without.log.read_text()
    path = create(client)
    client.post(f"{path}/price")  # fills the cache
    headers = {"Authorization": f"Bearer {issuer.token(tenant_id)}"}

    with_cache = client.post(f"{path}/price").json()
    from_the_database = httpx.post(f"{without.http}{path}/price", headers=headers).json()

    assert serving.process.poll() is None
    for document in (with_cache, from_the_database):
        del document["version"], document["pricedAt"], document["updatedAt"]
    assert with_cache == from_the_database


def test_log_lines_are_json_and_hold_no_token(serving: ApiProcess, client: httpx.Client) -> None:
    client.get("/v1/catalog/offerings")
    serving.process.terminate()
    serving.process.wait(PATIENCE_S)

    lines = serving.log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines), lines
    assert client.headers["Authorization"].split()[1] not in serving.log.read_text()


def test_check_config_is_a_command_of_its_own() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "app.entrypoints.api", "--check-config"],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 78
    assert "DB_URL: missing" in run.stderr
