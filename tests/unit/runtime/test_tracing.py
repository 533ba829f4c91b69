"""Spans continue the trace that they are given, show no secrets, and are sent beside the work or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry

from app.runtime import tracing
from app.runtime.metrics import TraceMetrics
from app.runtime.trace_export import BoundedProcessor, exported
from app.runtime.tracing import Destination

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    source = tracing.provider({"service.name": "test"})
    source.add_span_processor(SimpleSpanProcessor(kept))
    with tracing.made_by(source):
        yield kept


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}" if span.context else ""


def parent_of(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


def test_a_span_and_its_steps_continue_the_trace_that_was_given(spans: InMemorySpanExporter) -> None:
    with tracing.span("outer", "client", parent=PARENT) as outer:
        inside = tracing.current_traceparent()
        with tracing.step("inner"):
            tracing.tag(order_id="o-1")

    found = by_name(spans)
    assert inside == tracing.traceparent_of(outer) != PARENT
    assert {trace_of(span) for span in found.values()} == {TRACE}
    assert parent_of(found["outer"]) == "b7ad6b7169203331"
    assert found["inner"].parent == found["outer"].context
    assert dict(found["inner"].attributes or {}) == {"cpq.order_id": "o-1"}
    assert tracing.current_traceparent() is None


def test_a_step_outside_any_trace_leaves_none(spans: InMemorySpanExporter) -> None:
    with tracing.step("alone"):
        assert tracing.current_traceparent() is None

    assert not spans.get_finished_spans()


@pytest.mark.parametrize("parent", [None, "", "00-x-y-01", f"00-{'0' * 32}-b7ad6b7169203331-01"])
def test_a_trace_that_cannot_be_read_is_begun_anew(spans: InMemorySpanExporter, parent: str | None) -> None:
    with tracing.span("work", parent=parent):
        made = tracing.current_traceparent() or ""

    assert made.split("-")[1].strip("0")
    assert by_name(spans)["work"].parent is None


def test_a_caller_that_keeps_no_trace_is_followed(spans: InMemorySpanExporter) -> None:
    with tracing.span("work", parent=f"00-{TRACE}-b7ad6b7169203331-00"):
        made = tracing.current_traceparent() or ""

    assert made.startswith(f"00-{TRACE}-")
    assert made.endswith("-00")
    assert not spans.get_finished_spans()


def test_an_exception_leaves_its_type_and_not_its_text(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.span("work", parent=None):
        raise ValueError("postgresql://u:secret@db")

    span = by_name(spans)["work"]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert "secret" not in span.to_json()


def test_late_work_is_part_of_the_trace_it_learns_of_from_its_beginning(spans: InMemorySpanExporter) -> None:
    began = tracing.now()
    with tracing.late_span("job", "consumer", attributes={"cpq.job_type": "t"}):
        assert tracing.current_traceparent() is None
        tracing.follow(PARENT)
        tracing.follow(PARENT)  # a further look at the same row
        with tracing.step("call"):
            pass

    found = by_name(spans)
    assert set(found) == {"job", "call"}
    assert found["call"].parent == found["job"].context
    assert trace_of(found["job"]) == TRACE
    assert began <= (found["job"].start_time or 0) <= (found["call"].start_time or 0)
    assert tracing.current_traceparent() is None


def test_late_work_that_belongs_to_no_trace_leaves_no_span(spans: InMemorySpanExporter) -> None:
    with tracing.late_span("job", "consumer", attributes={}):
        tracing.follow(None)

    assert not spans.get_finished_spans()


async def test_jobs_side_by_side_stay_in_their_own_traces(spans: InMemorySpanExporter) -> None:
    other = TRACE.replace("0af", "1af")

    async def job(name: str, trace: str) -> None:
        with tracing.late_span(name, "consumer", attributes={}):
            await asyncio.sleep(0)
            tracing.follow(f"00-{trace}-b7ad6b7169203331-01")
            await asyncio.sleep(0)
            with tracing.step(f"call of {name}"):
                await asyncio.sleep(0)

    await asyncio.gather(job("a", TRACE), job("b", other))

    assert {name: trace_of(span) for name, span in by_name(spans).items()} == {
        "a": TRACE, "call of a": TRACE, "b": other, "call of b": other,
    }  # fmt: skip


def test_one_of_several_done_together_is_recorded_with_its_own_trace(spans: InMemorySpanExporter) -> None:
    started = tracing.now()
    tracing.record("publish", "producer", parent=PARENT, started=started, attributes={}, error="Rejected")
    tracing.record("publish", "producer", parent=None, started=started, attributes={})

    (span,) = spans.get_finished_spans()
    assert (trace_of(span), span.start_time, span.status.description) == (TRACE, started, "Rejected")


class Receiver(SpanExporter):
    """Takes nothing until it is let, and then answers as it is told."""

    def __init__(self, answer: SpanExportResult) -> None:
        self.answer, self.let = answer, threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.let.wait(10)
        return self.answer

    def shutdown(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("answer", "outcome"), [(SpanExportResult.SUCCESS, "sent"), (SpanExportResult.FAILURE, "failed")]
)
def test_spans_that_find_the_queue_full_are_dropped_and_every_span_is_counted(
    answer: SpanExportResult, outcome: str
) -> None:
    registry, receiver = CollectorRegistry(), Receiver(answer)
    source = tracing.provider({})
    source.add_span_processor(BoundedProcessor(receiver, TraceMetrics(registry), most_waiting=3))
    with tracing.made_by(source):
        for _ in range(8):  # the receiver takes none of them yet, and nobody waits for it
            with tracing.span("work", parent=None):
                pass

    def count(name: str) -> float | None:
        return registry.get_sample_value("cpq_trace_spans_total", {"outcome": name})

    assert count("dropped") == 5
    receiver.let.set()
    source.shutdown()
    assert {name: count(name) for name in ("sent", "failed", "dropped")} == {
        "sent": 0, "failed": 0, "dropped": 5, outcome: 3,
    }  # fmt: skip


async def test_a_receiver_that_is_away_neither_fails_nor_holds_up_the_process() -> None:
    registry = CollectorRegistry()
    # Port 1 of this machine: nobody listens.
    destination = Destination("http://127.0.0.1:1", "", "relay", "relay-1", "test")
    async with asyncio.timeout(10):
        async with exported(registry, "r-1", destination):
            with tracing.span("work", parent=None):
                pass

    samples = {
        name: registry.get_sample_value("cpq_trace_spans_total", {"outcome": name}) for name in ("sent", "dropped")
    }
    assert samples == {"sent": 0, "dropped": 0}
    assert tracing.current_traceparent() is None


async def test_without_an_endpoint_nothing_is_sent_and_no_figure_is_shown() -> None:
    registry = CollectorRegistry()
    async with exported(registry, "r-1", Destination("", "", "relay", "relay-1", "test")):
        with tracing.span("work", parent=PARENT):
            assert (tracing.current_traceparent() or "").startswith(f"00-{TRACE}-")

    assert registry.get_sample_value("cpq_trace_spans_total", {"outcome": "sent"}) is None
