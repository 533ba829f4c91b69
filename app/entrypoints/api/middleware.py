"""What happens around every request: identity of the request, which listener it came in by, who calls, count and log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import falcon
import falcon.asgi
import structlog

from app.domain.values import Actor
from app.entrypoints.api.problems import Problem
from app.entrypoints.api.tokens import TokenVerifier, unauthorized
from app.runtime.clock import Clock
from app.runtime.ids import Ids
from app.runtime.logging import get_logger
from app.runtime.tracing import current_traceparent, tag

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/-]+=*)")
_INTERNAL_ROUTES = frozenset({"/metrics", "/health/diagnostics"})
_HEALTH_PREFIX = "/health/"
_log = get_logger(__name__)


def about(**identifiers: str) -> None:
    """Say on every further line and on the span of this request what it is about, such as `order_id`."""
    structlog.contextvars.bind_contextvars(**identifiers)
    tag(**identifiers)


class RequestObserver(Protocol):
    """Is told of every answered request; `app.runtime.metrics.ApiMetrics` is one."""

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        ...


class RequestIdentity:
    """Gives every request an identifier, logs one line about it and counts it.

    Only the trace is begun before: everything after this middleware may fail and is still identified, logged and counted.
    """

    def __init__(self, observer: RequestObserver, clock: Clock, ids: Ids) -> None:
        self._observer = observer
        self._clock = clock
        self._ids = ids

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Take over the caller's request id where it is well-formed, else make a new one."""
        given = req.get_header("X-Request-Id") or ""
        request_id = given if _REQUEST_ID.fullmatch(given) else str(self._ids.new())
        req.context.started = self._clock.monotonic()
        req.context.request_id = request_id
        req.context.traceparent = current_traceparent()
        resp.set_header("X-Request-Id", request_id)
        structlog.contextvars.clear_contextvars()
        about(request_id=request_id)

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Log and count the answer; the route's template stands for the path, which has identifiers in it."""
        seconds = self._clock.monotonic() - req.context.started
        route = req.uri_template or "unmatched"
        self._observer.request(req.method, route, resp.status_code, seconds)
        if route not in _INTERNAL_ROUTES and not route.startswith(_HEALTH_PREFIX):  # asked for every few seconds
            _log.info(
                "request",
                method=req.method,
                route=route,
                status=resp.status_code,
                duration_ms=round(seconds * 1000, 1),
            )


class ListenerWall:
    """Keeps the two listeners apart: metrics and diagnostics inside, the API outside, plain health checks on both."""

    def __init__(self, internal_port: int) -> None:
        self._internal_port = internal_port

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Answer a route of the other listener like one that does not exist."""
        _host, port = req.scope["server"]
        route = req.uri_template or ""
        belongs_inside = route in _INTERNAL_ROUTES
        on_both = route.startswith(_HEALTH_PREFIX) and not belongs_inside
        if not on_both and (port == self._internal_port) != belongs_inside:
            raise falcon.HTTPRouteNotFound


class Authentication:
    """Puts the caller on the request, or refuses it.

    Args:
        verifier: judges tokens.
        scopes: which scope each method of each route needs, None for none; a route that is not here is a defect.
    """

    def __init__(self, verifier: TokenVerifier, scopes: Mapping[str, Mapping[str, str | None]]) -> None:
        self._verifier = verifier
        self._scopes = scopes

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Check token and scope; methods that the route does not have go on to their 405."""
        scope = self._scopes[req.uri_template or ""].get(req.method)
        if scope is None:
            return
        caller = await self._verifier.verify(_bearer_token(req))
        about(tenant=caller.tenant_id)
        if scope not in caller.scopes:
            raise Problem(403, "forbidden", f"This needs the scope {scope}.")
        req.context.actor = Actor(caller.tenant_id, caller.subject, req.context.request_id, req.context.traceparent)


def _bearer_token(req: falcon.asgi.Request) -> str:
    """The token of the one Authorization header; a token anywhere else is never looked at."""
    header = req.get_header("Authorization") or ""
    if "," in header:  # how several headers of one name arrive here
        raise Problem(400, "bad-request", "There is more than one Authorization header.")
    match = _BEARER.fullmatch(header)
    if match is None:
        raise unauthorized()
    return match[1]
