"""Sends a process's spans to the observability host, beside its work: OTLP over HTTP from a thread of its own.

Nothing here can delay or fail what is traced: a span that finds the queue full is dropped and counted, one that could not
be sent is counted and forgotten, and the end of a process waits for the last ones for a moment only.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from app.runtime import tracing
from app.runtime.logging import get_logger
from app.runtime.metrics import TraceMetrics
from app.runtime.tracing import Destination

MOST_WAITING = 2048
"""Spans that wait to be sent or are being sent; one more is dropped."""

_BATCH = 256
_PAUSE_MS = 1000
_PATIENCE_SECONDS = 3.0
_PARTING_SECONDS = 2.0
_log = get_logger(__name__)
# What it says of each failed batch is said here, once when it begins and once when it is over.
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


class _Settled(Protocol):
    """Is told what became of spans that were handed over."""

    def __call__(self, spans: int, *, is_sent: bool) -> None: ...


class BoundedProcessor(SpanProcessor):
    """Hands ended spans to batches of the exporter as long as few enough wait.

    Args:
        exporter: sends a batch, from a thread of the processor's own.
        metrics: counts what became of spans.
        most_waiting: see MOST_WAITING.
    """

    def __init__(self, exporter: SpanExporter, metrics: TraceMetrics, most_waiting: int = MOST_WAITING) -> None:
        self._metrics, self._most_waiting = metrics, most_waiting
        self._waiting, self._lock = 0, threading.Lock()
        self._batches = BatchSpanProcessor(
            _Settling(exporter, self._settled),
            max_queue_size=most_waiting,
            schedule_delay_millis=_PAUSE_MS,
            max_export_batch_size=min(_BATCH, most_waiting),
        )

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            is_full = self._waiting >= self._most_waiting
            self._waiting += not is_full
        if is_full:
            self._metrics.dropped(1)
        else:
            self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def _settled(self, spans: int, *, is_sent: bool) -> None:
        with self._lock:
            self._waiting -= spans
        if is_sent:
            self._metrics.sent(spans)
        else:
            self._metrics.failed(spans)


class _Settling(SpanExporter):
    """The exporter, with what became of each batch told."""

    def __init__(self, exporter: SpanExporter, settled: _Settled) -> None:
        self._exporter, self._tell, self._is_failing = exporter, settled, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            is_sent = result is SpanExportResult.SUCCESS
            self._tell(len(spans), is_sent=is_sent)
            if self._is_failing == is_sent:
                self._is_failing = not is_sent
                _log.warning("spans are sent again" if is_sent else "spans cannot be sent; what is traced goes on")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


@asynccontextmanager
async def exported(registry: CollectorRegistry, release_id: str, destination: Destination) -> AsyncIterator[None]:
    """Send the spans of this process as long as the context is open; without an endpoint, none."""
    if not destination.endpoint:
        yield
        return
    session = requests.Session()
    session.trust_env = False  # no proxy and no password from the process environment
    exporter = OTLPSpanExporter(
        endpoint=f"{destination.endpoint}/v1/traces",
        certificate_file=destination.ca_file or None,
        timeout=_PATIENCE_SECONDS,
        session=session,
    )
    source = tracing.provider(
        {
            "service.name": f"cpq-oms-{destination.unit}",
            "service.instance.id": destination.instance,
            "service.version": release_id,
            "deployment.environment.name": destination.environment,
        }
    )
    source.add_span_processor(BoundedProcessor(exporter, TraceMetrics(registry)))
    try:
        with tracing.made_by(source):
            yield
    finally:
        # What cannot be sent by then is lost with the process, which must end: its thread is a daemon's.
        ending = threading.Thread(target=source.shutdown, name="last-spans", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _PARTING_SECONDS)
