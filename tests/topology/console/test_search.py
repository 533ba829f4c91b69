"""An operator who knows an order's id, or a trace's, finds what every unit said and did."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.released_host import ReleasedHost

PATIENCE_SECONDS = 20
# Units of one order, by the names of their instances.
DOING = {
    "api", "relay", "worker-starter", "worker-fulfillment", "worker-reactions", "simulator", "consumer-order-projection",
}  # fmt: skip
SAYING = {"cpq-oms-api", "cpq-oms-worker@starter", "cpq-oms-worker@fulfillment", "cpq-oms-worker@reactions"}


@pytest.fixture(scope="module")
def console(host: ReleasedHost) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{host.address}:8443", timeout=30, follow_redirects=True) as client:
        form = {"operator": "tests", "password": host.secret("console_password")}
        assert client.post("/login", data=form).raise_for_status().url.path == "/"
        yield client


def found(console: httpx.Client, text: str) -> str:
    return console.get("/search", params={"q": text}).raise_for_status().text


def saying(page: str) -> set[str]:
    return set(re.findall(r"<code>(cpq-oms-[\w@-]+)</code>", page))


def missing(page: str, host: ReleasedHost) -> set[str]:
    return {unit for unit in DOING if f"{host.name}-{unit}" not in page}


@pytest.fixture(scope="module")
def trace(console: httpx.Client, order: str) -> str:
    """The trace in which the order was made."""
    traces = {
        line.group(1)
        for line in re.finditer(r"00-([0-9a-f]{32})-", found(console, order))
        if "process started" in line.string
    }
    by_order = [one for one in traces if "POST /v1/quotes/{quote_id:uuid}/convert" in found(console, one)]
    assert len(by_order) == 1, traces
    return by_order[0]


def test_an_order_is_found_in_the_logs_of_the_units_that_worked_on_it(
    console: httpx.Client, order: str, host: ReleasedHost
) -> None:
    host.wait_until(
        lambda: saying(found(console, order)) >= SAYING,
        f"{sorted(SAYING)} say something of {order}",
        PATIENCE_SECONDS,
    )


def test_a_trace_is_found_in_the_logs_of_the_units_that_worked_on_it(
    console: httpx.Client, trace: str, host: ReleasedHost
) -> None:
    host.wait_until(
        lambda: saying(found(console, trace)) >= SAYING,
        f"{sorted(SAYING)} say something of {trace}",
        PATIENCE_SECONDS,
    )


def test_one_trace_has_the_spans_of_request_events_jobs_and_calls(
    console: httpx.Client, trace: str, host: ReleasedHost
) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while absent := missing(page := found(console, trace), host):
        assert time.monotonic() < end, f"no spans of {sorted(absent)} in trace {trace}"
        time.sleep(0.5)

    for work in (
        "transaction",
        "start process",
        "publish oms.order.events.v1",
        "job ",
        "call ",
        "apply order-projection",
    ):
        assert work in page, work


def test_spans_are_counted_and_none_is_dropped_at_rest(host: ReleasedHost) -> None:
    figures = host.run(f"curl --silent --fail http://{host.address}:9120/metrics").stdout

    assert re.search(r'^cpq_trace_spans_total\{outcome="sent"\} [1-9]', figures, re.MULTILINE)
    assert re.search(r'^cpq_trace_spans_total\{outcome="dropped"\} 0', figures, re.MULTILINE)
