"""A worker's life as the service manager and the release see it: READY, watchdog, registration, settings."""

from __future__ import annotations

import pytest

from app.adapters.postgres.pool import Connection
from tests.integration.worker.conftest import StartWorker
from tests.support.tcp_proxy import TcpProxy
from tests.support.unit_process import UnitProcess, free_port


async def registered(connection: Connection, instance_id: str) -> list[str] | None:
    cursor = await connection.execute(
        "SELECT job_types FROM cpq.worker_registration WHERE instance_id = %s", (instance_id,)
    )
    row = await cursor.fetchone()
    return None if row is None else list(row["job_types"])


async def test_a_ready_worker_is_registered_and_a_stopped_one_is_not(
    start_worker: StartWorker, admin_connection: Connection
) -> None:
    worker = start_worker("fulfillment")
    assert await registered(admin_connection, "tests-fulfillment") == [
        "activate-billing",
        "complete-order",
        "provision-service",
        "reserve-inventory",
    ]

    worker.terminate()

    assert worker.wait() == 0
    assert await registered(admin_connection, "tests-fulfillment") is None


async def test_a_killed_worker_leaves_its_registration_for_others_to_judge(
    start_worker: StartWorker, admin_connection: Connection
) -> None:
    worker = start_worker("starter")

    worker.kill()

    assert await registered(admin_connection, "tests-starter") == []


@pytest.mark.parametrize("group", ["starter", "fulfillment"])
async def test_an_idle_worker_feeds_the_watchdog(start_worker: StartWorker, group: str) -> None:
    worker = start_worker(group, watchdog_seconds=3.0, WORKER_POLL_INTERVAL="PT30S")

    for _ in range(5):
        assert worker.wait_for("WATCHDOG=1", 2.0)


@pytest.mark.parametrize("group", ["starter", "fulfillment"])
async def test_a_worker_is_ready_without_the_engine(
    start_worker: StartWorker, engine_proxy: TcpProxy, group: str
) -> None:
    engine_proxy.is_refusing = True

    worker = start_worker(group)

    worker.terminate()
    assert worker.wait() == 0


async def test_a_worker_is_not_ready_without_its_database(start_worker: StartWorker) -> None:
    worker = start_worker(
        "fulfillment", is_awaited=False, DB_URL=f"postgresql://cpq_worker@127.0.0.1:{free_port()}/cpq"
    )

    assert not worker.wait_for("READY=1", 20)
    assert worker.wait(20) == 1
    assert "start_failed" in worker.log


def test_wrong_settings_are_all_named_and_nothing_starts() -> None:
    worker = UnitProcess("worker", {"WORKER_GROUP": "starter", "WORKER_MAX_RUNS": "none"}, {"db-password": "x"})
    try:
        assert worker.wait(30) == 78
        named = {line.partition(":")[0] for line in worker.log.splitlines()}
        assert {"DB_URL", "WORKER_MAX_RUNS", "CAMUNDA_GRPC_ADDRESS", "credential billing-token"} <= named
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"WORKER_GROUP": "fulfilment"}, "WORKER_GROUP: expected one of fulfillment, reactions, starter"),
        (
            {"WORKER_ENABLED_TYPES": "reserve-stock"},
            "WORKER_ENABLED_TYPES: reserve-stock is no job type of group fulfillment",
        ),
        ({"WORKER_TYPE_OVERRIDES": "provision-service.timeout=PT12S"}, "EXTERNAL_TIMEOUT: expected at most PT2S"),
    ],
)
def test_settings_that_disagree_with_the_contract_are_refused(
    start_worker: StartWorker, changes: dict[str, str], problem: str
) -> None:
    worker = start_worker("fulfillment", is_awaited=False, **changes)

    assert worker.wait(30) == 78
    assert problem in worker.log
