"""Where machines hand in: alerts of this host's Alertmanager, and traces of the units by OTLP over HTTP.

Bounded in size and number: what is too much is refused, and whoever sent it goes on without.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any

import falcon
import falcon.asgi
import msgspec
from falcon.asgi import Request, Response

from app.adapters.sqlite.intake_store import IntakeStore
from app.entrypoints.console.otlp import NotTracesError, spans_in
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.metrics import ConsoleMetrics

log = get_logger(__name__)

_MOST_BODY = 4 * 1024 * 1024
_MOST_ALERTS = 500
_PROTOBUF = "application/x-protobuf"
_LOOPBACK = ("127.0.0.1", "::1")


class _Alert(msgspec.Struct):
    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: str = ""  # noqa: N815 - Alertmanager's name


class _Told(msgspec.Struct):
    alerts: list[_Alert]


class AlertsIntake:
    """POST /v1/alerts: what Alertmanager tells. 403: not from this host."""

    def __init__(self, store: IntakeStore, clock: Clock, metrics: ConsoleMetrics) -> None:
        self._store, self._clock, self._metrics = store, clock, metrics

    async def on_post(self, req: Request, resp: Response) -> None:
        """Keep it, and write it down."""
        if req.remote_addr not in _LOOPBACK:
            raise falcon.HTTPForbidden
        try:
            told = msgspec.json.decode(await _body(req), type=_Told)
        except msgspec.DecodeError as error:
            raise falcon.HTTPUnprocessableEntity(description=str(error)) from None
        alerts: list[dict[str, Any]] = [msgspec.to_builtins(alert) for alert in told.alerts[:_MOST_ALERTS]]
        for alert in alerts:
            labels = alert["labels"]
            self._metrics.alert(alert["status"])
            log.warning(
                "alert", status=alert["status"], alertname=labels.get("alertname"), severity=labels.get("severity"),
                host=labels.get("host"), summary=alert["annotations"].get("summary"),
            )  # fmt: skip
        await asyncio.to_thread(self._store.add_alerts, int(self._clock.now().timestamp() * 1000), alerts)
        resp.status = falcon.HTTP_204


class TracesIntake:
    """POST /v1/traces: spans as OTLP/HTTP sends them. 415: not as protobuf."""

    def __init__(self, store: IntakeStore, metrics: ConsoleMetrics) -> None:
        self._store, self._metrics = store, metrics

    async def on_post(self, req: Request, resp: Response) -> None:
        """Keep them."""
        body = await _body(req)
        if req.get_header("Content-Encoding") == "gzip":
            body = _unpacked(body)
        if req.content_type != _PROTOBUF:
            raise falcon.HTTPUnsupportedMediaType(description=f"expected {_PROTOBUF}")
        try:
            spans = spans_in(body)
        except NotTracesError as error:
            raise falcon.HTTPUnprocessableEntity(description=str(error)) from None
        await asyncio.to_thread(self._store.add_spans, spans)
        self._metrics.spans(len(spans))
        # An empty ExportTraceServiceResponse: everything was taken.
        resp.content_type = _PROTOBUF
        resp.data = b""


def create_intake(store: IntakeStore, metrics: ConsoleMetrics) -> falcon.asgi.App[Request, Response]:
    """Wire what units use."""
    app = falcon.asgi.App()
    app.add_error_handler(Exception, _unexpected)
    app.add_route("/v1/traces", TracesIntake(store, metrics))
    return app


def create_alerts_intake(
    store: IntakeStore, clock: Clock, metrics: ConsoleMetrics
) -> falcon.asgi.App[Request, Response]:
    """Wire what this host's Alertmanager uses."""
    app = falcon.asgi.App()
    app.add_error_handler(Exception, _unexpected)
    app.add_route("/v1/alerts", AlertsIntake(store, clock, metrics))
    return app


async def _body(req: Request) -> bytes:
    parts, size = [], 0
    async for chunk in req.stream:
        parts.append(chunk)
        size += len(chunk)
        if size > _MOST_BODY:
            raise falcon.HTTPContentTooLarge
    return b"".join(parts)


def _unpacked(body: bytes) -> bytes:
    """Unpack, but no more than is taken unpacked."""
    try:
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        unpacked = stream.decompress(body, _MOST_BODY + 1)
    except zlib.error as error:
        raise falcon.HTTPUnprocessableEntity(description=f"not gzip: {error}") from None
    if len(unpacked) > _MOST_BODY:
        raise falcon.HTTPContentTooLarge
    return unpacked


async def _unexpected(req: Request, _resp: Response, error: Exception, _params: Mapping[str, str]) -> None:
    if isinstance(error, falcon.HTTPError | falcon.HTTPStatus):
        raise error
    log.error("unexpected error", path=req.path, exc_info=error)
    raise falcon.HTTPInternalServerError
