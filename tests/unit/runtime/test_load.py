from __future__ import annotations

import asyncio
import contextlib
import time

from prometheus_client import CollectorRegistry

from app.runtime.clock import SystemClock
from app.runtime.load import LoadMonitor, watched
from app.runtime.metrics import ApiMetrics, LoadMetrics, QuoteMetrics, WorkerMetrics


async def test_a_late_loop_is_seen_by_its_lateness() -> None:
    registry = CollectorRegistry()
    monitor = asyncio.create_task(LoadMonitor(LoadMetrics(registry, "r-1"), SystemClock(), interval=0.01).run())
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # noqa: ASYNC251 - it is meant to block
    await asyncio.sleep(0.05)
    monitor.cancel()

    total = registry.get_sample_value("cpq_event_loop_lag_seconds_count")
    prompt = registry.get_sample_value("cpq_event_loop_lag_seconds_bucket", {"le": "0.1"})
    assert total is not None
    assert prompt is not None
    assert total - prompt == 1


async def test_release_memory_and_the_pools_waits_are_shown() -> None:
    registry = CollectorRegistry()
    figures = {"pool_size": 5, "pool_available": 2, "requests_waiting": 1, "requests_num": 8, "requests_wait_ms": 1500}
    async with watched(registry, "cpq-oms-2026.11.28-001") as load:
        load.watch_pool(lambda: figures)
        # The first look is taken when the monitor's task begins.
        await asyncio.sleep(0)

    value = registry.get_sample_value
    assert value("cpq_unit_release", {"release": "cpq-oms-2026.11.28-001"}) == 1
    assert value("cpq_process_resident_bytes") > 1_000_000  # type: ignore[operator]
    assert value("cpq_process_cpu_seconds_total") > 0  # type: ignore[operator]
    assert value("cpq_db_pool_connections", {"state": "in_use"}) == 3
    assert value("cpq_db_pool_connections", {"state": "waited_for"}) == 1
    assert value("cpq_db_pool_requests_total") == 8
    assert value("cpq_db_pool_wait_seconds_total") == 1.5


def test_a_pools_figures_are_added_once_and_survive_its_beginning_anew() -> None:
    registry = CollectorRegistry()
    metrics = LoadMetrics(registry, "r-1")
    for requests in (3, 3, 5, 1):
        metrics.pool({"requests_num": requests})

    assert registry.get_sample_value("cpq_db_pool_requests_total") == 5


def test_a_request_that_breaks_is_under_way_no_more() -> None:
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    seen = []
    with contextlib.suppress(ZeroDivisionError), metrics.in_flight():
        seen.append(registry.get_sample_value("cpq_api_requests_in_flight"))
        1 / 0  # noqa: B018 - it is meant to break
    seen.append(registry.get_sample_value("cpq_api_requests_in_flight"))

    assert seen == [1, 0]


def test_quotes_and_jobs_held_are_shown() -> None:
    registry = CollectorRegistry()
    QuoteMetrics(registry).reached("accepted")
    WorkerMetrics(registry).in_flight("reserve-inventory", 4)

    assert registry.get_sample_value("cpq_quotes_total", {"state": "accepted"}) == 1
    assert registry.get_sample_value("cpq_worker_jobs_in_flight", {"job_type": "reserve-inventory"}) == 4
