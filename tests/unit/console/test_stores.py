"""What is followed of the engine, and what is handed in, survives being told twice and is dropped when it is old."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from prometheus_client import CollectorRegistry

from app.adapters.sqlite.engine_store import EngineStore, Exported
from app.adapters.sqlite.intake_store import IntakeStore
from app.entrypoints.console.intake import create_alerts_intake, create_intake
from app.entrypoints.console.otlp import NotTracesError, spans_in
from app.runtime.metrics import ConsoleMetrics
from tests.unit.console.conftest import ORDER, SettableClock

PROCESS = "order-fulfillment-v1"
TRACE, SPAN = bytes(range(16)), bytes(range(8))


def record(kind: str, intent: str, key: int, at: int, **value: Any) -> Mapping[str, Any]:
    shared = {
        "bpmnProcessId": PROCESS,
        "processInstanceKey": 1,
        "version": 1,
        "bpmnElementType": "PROCESS",
        "type": "reserve",
    }
    return {
        "recordType": "EVENT",
        "valueType": kind,
        "intent": intent,
        "key": key,
        "timestamp": at,
        "value": shared | value,
    }


def store(folder: Path, waits: list[tuple[str, float]]) -> EngineStore:
    return EngineStore(folder / "engine.sqlite3", lambda job_type, seconds, _at: waits.append((job_type, seconds)))


def test_instances_jobs_and_incidents_are_followed_to_their_end(tmp_path: Path) -> None:
    waits: list[tuple[str, float]] = []
    engine = store(tmp_path, waits)
    engine.apply(
        Exported(0, offset, one)
        for offset, one in enumerate(
            [
                record("PROCESS_INSTANCE", "ELEMENT_ACTIVATED", 1, 1000),
                record("JOB", "CREATED", 5, 2000),
                record("JOB_BATCH", "ACTIVATED", 6, 2500, jobKeys=[5]),
                record("JOB", "FAILED", 5, 3000, retries=0),
                record("INCIDENT", "CREATED", 7, 3000, elementId="Task_Reserve", errorMessage="no"),
            ]
        )
    )

    [version] = engine.versions()
    assert (version["process"], version["active"], version["incidents"]) == (PROCESS, 1, 1)
    assert engine.jobs() == [{"type": "reserve", "waiting": 0, "taken": 0, "exhausted": 1, "oldest": None}]
    assert waits == [("reserve", 0.5)]

    engine.apply([Exported(0, 5, record("PROCESS_INSTANCE", "ELEMENT_COMPLETED", 1, 4000))])
    assert (engine.versions()[0]["active"], engine.versions()[0]["completed"]) == (0, 1)
    assert engine.jobs() == []
    assert engine.incidents() == []
    assert store(tmp_path, waits).places() == {0: 6}

    engine.forget(4001)
    assert engine.versions() == []


def test_commands_and_rejections_change_nothing(tmp_path: Path) -> None:
    engine = store(tmp_path, [])
    engine.apply([Exported(0, 0, {**record("JOB", "CREATED", 5, 1), "recordType": "COMMAND"})])

    assert engine.jobs() == []
    assert engine.places() == {0: 1}


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3 | 1]) + struct.pack("<Q", value)
    size, head = len(value), [number << 3 | 2]
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + value


def request(unit: str = "cpq-oms-api", span_id: bytes = SPAN) -> bytes:
    order = field(1, b"cpq.order_id") + field(2, field(1, str(ORDER).encode()))
    status = bytes([3 << 3, 2])
    span = b"".join([
        field(1, TRACE), field(2, span_id), field(5, b"convert"), field(7, 1_000), field(8, 3_000), field(9, order), field(15, status),
    ])  # fmt: skip
    resource = field(1, field(1, b"service.name") + field(2, field(1, unit.encode())))
    return field(1, field(1, resource) + field(2, field(2, span)))


def test_spans_are_read_as_exporters_send_them() -> None:
    [span] = spans_in(request())

    assert (span.trace, span.span, span.name, span.unit) == (TRACE.hex(), SPAN.hex(), "convert", "cpq-oms-api")
    assert (span.started, span.nanoseconds, span.failed, span.order_id) == (1_000, 2_000, True, str(ORDER))


def test_a_torn_request_is_refused_and_breaks_nothing() -> None:
    whole = request()
    for cut in range(1, len(whole)):
        with pytest.raises(NotTracesError):
            spans_in(whole[:cut])


@pytest.fixture
def intake(tmp_path: Path) -> tuple[falcon.testing.TestClient, IntakeStore]:
    kept = IntakeStore(tmp_path / "intake.sqlite3")
    return falcon.testing.TestClient(create_intake(kept, ConsoleMetrics(CollectorRegistry()))), kept


def test_a_trace_is_found_by_its_order_and_kept_once(intake: tuple[falcon.testing.TestClient, IntakeStore]) -> None:
    client, kept = intake
    headers = {"Content-Type": "application/x-protobuf"}
    statuses = [client.simulate_post("/v1/traces", body=request(), headers=headers).status_code for _ in range(2)]

    statuses.append(
        client.simulate_post("/v1/traces", body=request("relay-1-relay", SPAN[::-1]), headers=headers).status_code
    )

    assert statuses == [200, 200, 200]
    [trace] = kept.traces_of_order(str(ORDER))
    assert (trace["trace"], trace["spans"], trace["failed"]) == (TRACE.hex(), 2, 1)
    assert sorted(trace["units"].split(", ")) == ["cpq-oms-api", "relay-1-relay"]
    kept.forget(1)
    assert kept.trace(TRACE.hex()) == []


@pytest.mark.parametrize(
    ("body", "kind", "status"), [(b"\x07", "application/x-protobuf", 422), (b"{}", "application/json", 415), (b"\0" * 5_000_000, "application/x-protobuf", 413)]
)  # fmt: skip
def test_what_is_no_trace_is_refused(
    intake: tuple[falcon.testing.TestClient, IntakeStore], body: bytes, kind: str, status: int
) -> None:
    assert intake[0].simulate_post("/v1/traces", body=body, headers={"Content-Type": kind}).status_code == status


def test_alerts_are_taken_from_this_host_only(tmp_path: Path) -> None:
    kept = IntakeStore(tmp_path / "intake.sqlite3")
    alerts = create_alerts_intake(kept, SettableClock(), ConsoleMetrics(CollectorRegistry()))
    client = falcon.testing.TestClient(alerts)
    told = {"alerts": [{"status": "firing", "labels": {"alertname": "HostDown"}, "annotations": {"summary": "gone"}}]}

    assert client.simulate_post("/v1/alerts", json=told, remote_addr="192.0.2.9").status_code == 403
    assert kept.alerts() == []
    assert client.simulate_post("/v1/alerts", json=told).status_code == 204
    assert [(alert["name"], alert["summary"]) for alert in kept.alerts()] == [("HostDown", "gone")]
