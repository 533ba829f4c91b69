"""The HTTP application: all routes on one page, collaborators passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import falcon
import falcon.asgi
from prometheus_client import CollectorRegistry

from app.application.orders import OrderCommands
from app.application.queries import Queries
from app.application.quotes import QuoteCommands
from app.application.rate_limiting import RateLimiter
from app.contracts.loader import RequestLimit
from app.entrypoints.api import problems
from app.entrypoints.api.health import (
    DiagnosticsResource,
    LiveResource,
    MetricsResource,
    Probe,
    ReadyResource,
    StartupResource,
)
from app.entrypoints.api.middleware import Authentication, ListenerWall, RequestIdentity, RequestObserver
from app.entrypoints.api.rate_limits import RateLimiting
from app.entrypoints.api.resources.catalog import OfferingsResource
from app.entrypoints.api.resources.openapi import OpenApiResource
from app.entrypoints.api.resources.orders import OrderResource
from app.entrypoints.api.resources.quotes import (
    QuoteAcceptResource,
    QuoteConvertResource,
    QuotePriceResource,
    QuoteResource,
    QuotesResource,
)
from app.entrypoints.api.tokens import TokenVerifier
from app.runtime.clock import Clock
from app.runtime.ids import Ids
from app.runtime.metrics import OrderMetrics, QuoteMetrics
from app.runtime.tracing import TracedRequests


class Lifespan(Protocol):
    """What happens before the first request and after the last one."""

    @property
    def has_started(self) -> bool:
        """Whether start-up is over and has succeeded."""
        ...

    async def start(self) -> None:
        """Open connections and check what must be right; raising keeps the process from serving."""
        ...

    async def stop(self) -> None:
        """Close what `start` opened."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything the application is made of; wiring.py makes the real ones."""

    quotes: QuoteCommands
    orders: OrderCommands
    queries: Queries
    verifier: TokenVerifier
    clock: Clock
    ids: Ids
    limiter: RateLimiter
    limits: Mapping[str, RequestLimit]
    requests: RequestObserver
    order_metrics: OrderMetrics
    quote_metrics: QuoteMetrics
    metrics_registry: Callable[[], CollectorRegistry]
    ask_database: Probe
    ask_others: Sequence[Probe]
    lifespan: Lifespan
    openapi: bytes
    internal_port: int


@dataclass(frozen=True, slots=True)
class Route:
    """A path, what answers there, and the scope that each method needs; None lets anybody in."""

    template: str
    resource: object
    scopes: Mapping[str, str | None]


def routes(deps: Dependencies) -> Sequence[Route]:
    """Every route of both listeners."""
    convert = QuoteConvertResource(deps.orders, deps.order_metrics)
    return (
        Route("/v1/catalog/offerings", OfferingsResource(deps.queries), {"GET": "catalog:read"}),
        Route("/v1/quotes", QuotesResource(deps.quotes, deps.quote_metrics), {"POST": "quote:write"}),
        Route("/v1/quotes/{quote_id:uuid}", QuoteResource(deps.queries), {"GET": "quote:read"}),
        Route(
            "/v1/quotes/{quote_id:uuid}/price",
            QuotePriceResource(deps.quotes, deps.quote_metrics),
            {"POST": "quote:write"},
        ),
        Route(
            "/v1/quotes/{quote_id:uuid}/accept",
            QuoteAcceptResource(deps.quotes, deps.quote_metrics),
            {"POST": "quote:write"},
        ),
        Route("/v1/quotes/{quote_id:uuid}/convert", convert, {"POST": "order:write"}),
        Route("/v1/orders/{order_id:uuid}", OrderResource(deps.queries), {"GET": "order:read"}),
        Route("/openapi.json", OpenApiResource(deps.openapi), {"GET": None}),
        Route("/health/live", LiveResource(), {"GET": None}),
        Route("/health/ready", ReadyResource(deps.ask_database, deps.verifier.is_able), {"GET": None}),
        Route("/health/startup", StartupResource(lambda: deps.lifespan.has_started), {"GET": None}),
        # On the internal listener only; see middleware.ListenerWall.
        Route("/health/diagnostics", DiagnosticsResource([deps.ask_database, *deps.ask_others]), {"GET": None}),
        Route("/metrics", MetricsResource(deps.metrics_registry), {"GET": None}),
    )


def create_app(deps: Dependencies) -> falcon.asgi.App[Any, Any]:
    """Wire the application.

    Raises:
        ValueError: a route's resource has a method without saying which scope it needs, or the other way round.
    """
    table = routes(deps)
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(
        middleware=[
            _LifespanHooks(deps.lifespan),
            TracedRequests("/health/", "/metrics"),
            RequestIdentity(deps.requests, deps.clock, deps.ids),
            ListenerWall(deps.internal_port),
            Authentication(deps.verifier, {route.template: route.scopes for route in table}),
            RateLimiting(deps.limiter, deps.limits),
        ]
    )
    problems.register(app)
    for route in table:
        methods = {method for method in falcon.HTTP_METHODS if hasattr(route.resource, f"on_{method.lower()}")}
        if methods != set(route.scopes):
            raise ValueError(f"{route.template}: methods {sorted(methods)} and scopes {sorted(route.scopes)} differ")
        app.add_route(route.template, route.resource)
    return app


class _LifespanHooks:
    """Falcon's names for start and stop."""

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan

    async def process_startup(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        await self._lifespan.start()

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        await self._lifespan.stop()
