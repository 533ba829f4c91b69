"""Spans of OpenTelemetry under the W3C trace that requests, events, audit entries and logs carry.

Everything else in the platform makes spans through this module. Where nothing sends them (`app.runtime.trace_export`) they
cost a few microseconds and go nowhere; the identifiers are made all the same, because logs and events carry them.

An exception that ends a span leaves its type there and never its text, which may hold what a log would hide.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | bool]

_KINDS: Mapping[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_W3C = TraceContextTextMapPropagator()
_SCOPE = "cpq-oms"
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the spans of a process go, and whose they are.

    Args:
        endpoint: base URL of the receiver; empty: nothing is sent.
        ca_file: whom it is believed, empty where it speaks no TLS.
        unit: the deployable.
        instance: APP_INSTANCE_ID.
        environment: APP_ENV.
    """

    endpoint: str
    ca_file: str
    unit: str
    instance: str
    environment: str


def provider(resource: Mapping[str, str]) -> TracerProvider:
    """Return a maker of spans that follows the caller's decision whether a trace is kept; nothing is read from the host."""
    return TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=Resource(resource), shutdown_on_exit=False)


class _Process:
    """What this process makes spans with, and whether anybody gets them."""

    def __init__(self) -> None:
        self.stop()

    def start(self, source: TracerProvider) -> None:
        self.tracer, self.is_exporting = source.get_tracer(_SCOPE), True

    def stop(self) -> None:
        self.tracer, self.is_exporting = provider({}).get_tracer(_SCOPE), False


_process = _Process()


@contextmanager
def made_by(source: TracerProvider) -> Iterator[None]:
    """Let a provider that sends spans somewhere make those of this process, as long as the context is open."""
    _process.start(source)
    try:
        yield
    finally:
        _process.stop()


def current_traceparent() -> str | None:
    """The W3C trace context of the work that is going on here, or None outside any trace."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: Span) -> str | None:
    """The W3C trace context by which others continue from a span, or None where it is none."""
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"


@contextmanager
def span(
    name: str, kind: Kind = "internal", *, parent: str | None, attributes: Attributes | None = None
) -> Iterator[Span]:
    """Do a piece of work as a span of the trace that `parent` names; without one, or with a malformed one, of a new trace."""
    one = _process.tracer.start_span(name, _continued(parent), _KINDS[kind], _plain(attributes))
    with _current(one):
        yield one


@contextmanager
def step(name: str, kind: Kind = "internal", *, attributes: Attributes | None = None) -> Iterator[None]:
    """Do a piece of work as a span of the trace that is going on here; outside any trace it is not worth one of its own."""
    if not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    with _current(_process.tracer.start_span(name, None, _KINDS[kind], _plain(attributes))):
        yield


def tag(**attributes: str | int | bool) -> None:
    """Say something of the span that is going on here; `order_id` becomes `cpq.order_id`."""
    current = trace.get_current_span()
    for name, value in attributes.items():
        current.set_attribute(f"cpq.{name}", value)


def now() -> int:
    """Nanoseconds since the epoch, for `record`."""
    return time.time_ns()


def record(
    name: str, kind: Kind, *, parent: str | None, started: int, attributes: Attributes, error: str | None = None
) -> None:
    """Write down, as a span that ends now, one of several pieces of work that were done together."""
    if not _process.is_exporting or parent is None:
        return
    one = _process.tracer.start_span(name, _continued(parent), _KINDS[kind], _plain(attributes), start_time=started)
    if error is not None:
        one.set_status(Status(StatusCode.ERROR, error))
    one.end()


@dataclass(slots=True)
class _Late:
    """Work whose trace is not known when it begins."""

    name: str
    kind: Kind
    attributes: Attributes
    started: int
    span: Span | None = None
    token: contextvars.Token[Context] | None = None


_late: contextvars.ContextVar[_Late | None] = contextvars.ContextVar("cpq_late_span", default=None)


@contextmanager
def late_span(name: str, kind: Kind, *, attributes: Attributes) -> Iterator[None]:
    """Do a piece of work that learns in its midst which trace it belongs to, by `follow`; unless it does, it leaves no span."""
    late = _Late(name, kind, attributes, now())
    token = _late.set(late)
    try:
        yield
    except BaseException as error:
        if late.span is not None:
            late.span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        _late.reset(token)
        if late.span is not None and late.token is not None:
            contexts.detach(late.token)
            late.span.end()


def follow(traceparent: str | None) -> None:
    """Say which trace the work of the open `late_span` belongs to: what comes from here on is part of it."""
    late = _late.get()
    if late is None or late.span is not None or traceparent is None:
        return
    late.span = _process.tracer.start_span(
        late.name, _continued(traceparent), _KINDS[late.kind], _plain(late.attributes), start_time=late.started
    )
    late.token = contexts.attach(trace.set_span_in_context(late.span))


class TracedRequests:
    """Middleware of falcon: each request is a span, named by its route, of the caller's trace or of a new one.

    Args:
        untraced: beginnings of paths that are asked for every few seconds and tell nothing.
    """

    def __init__(self, *untraced: str) -> None:
        self._untraced = untraced

    async def process_request(self, req: Any, resp: Any) -> None:
        """Begin the span."""
        req.context.span = None
        if req.path.startswith(self._untraced):
            return
        req.context.span = _process.tracer.start_span(
            req.method, _continued(req.get_header("traceparent")), SpanKind.SERVER, {"http.request.method": req.method}
        )
        req.context.trace_token = contexts.attach(trace.set_span_in_context(req.context.span))

    async def process_response(self, req: Any, resp: Any, resource: object, req_succeeded: bool) -> None:
        """End it with what was answered."""
        one: Span | None = req.context.span
        if one is None:
            return
        route = req.uri_template or "unmatched"
        one.update_name(f"{req.method} {route}")
        one.set_attribute("http.route", route)
        one.set_attribute("http.response.status_code", resp.status_code)
        if resp.status_code >= _SERVER_ERROR:
            one.set_status(Status(StatusCode.ERROR, str(resp.status_code)))
        one.end()
        contexts.detach(req.context.trace_token)


@contextmanager
def _current(one: Span) -> Iterator[None]:
    token = contexts.attach(trace.set_span_in_context(one))
    try:
        yield
    except BaseException as error:
        one.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        one.end()
        contexts.detach(token)


def _continued(traceparent: str | None) -> Context:
    """The trace that goes on from there, and nothing of what is going on here."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _plain(attributes: Attributes | None) -> dict[str, str | int | bool]:
    return dict(attributes or {})
