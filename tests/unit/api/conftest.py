"""The application on a store in memory, behind the framework's simulated client; tokens from an issuer of the tests."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import falcon.testing
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry

from app.adapters.memory.declared_reads import MemoryDeclaredReads
from app.adapters.memory.unit_of_work import MemoryStore
from app.application.queries import Queries
from app.application.rate_limiting import LocalRateLimiter
from app.contracts.loader import DIRECTORY, load_rate_limits
from app.domain.values import TenantId
from app.entrypoints.api.app import Dependencies, create_app
from app.entrypoints.api.resources.openapi import as_json
from app.entrypoints.api.tokens import SigningKeys, TokenVerifier
from app.runtime.clock import SystemClock
from app.runtime.health import DependencyStatus, Status
from app.runtime.metrics import ApiMetrics, OrderMetrics, QuoteMetrics
from tests.support.builders import Commands, CountingIds, SetClock, fiber, legacy

ISSUER = "https://issuer.test"
AUDIENCE = "cpq-oms"
PUBLIC_PORT = 80  # what the simulated client says it connects to
INTERNAL_PORT = 9100
OPENAPI = as_json(DIRECTORY / "openapi.yml")
ALL_SCOPES = "quote:read quote:write order:read order:write catalog:read"

LIMITS = load_rate_limits()


class TestIssuer:
    """Signs tokens and serves its keys; `requests` counts how often they were fetched."""

    __test__ = False

    def __init__(self) -> None:
        self.keys = {"k-1": ec.generate_private_key(ec.SECP256R1())}
        self.requests = 0
        self.answer: httpx.Response | None = None

    def jwks(self, _request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.answer is not None:
            return self.answer
        keys = [
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "alg": "ES256"}
            for kid, key in self.keys.items()
        ]
        return httpx.Response(200, json={"keys": keys})

    def token(self, *, kid: str = "k-1", headers: Mapping[str, Any] | None = None, **changes: Any) -> str:
        now = int(SystemClock().now().timestamp())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "somebody",
            "tenant": "acme",
            "scope": ALL_SCOPES,
            "iat": now,
            "exp": now + 300,
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(
            claims, self.keys[kid], algorithm="ES256", headers={"kid": kid, "typ": "at+jwt", **(headers or {})}
        )


class World:
    """The application and everything around it that a test may change."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.issuer = TestIssuer()
        self.store = MemoryStore(self.clock)
        for tenant in ("acme", "globex"):
            self.store.publish(TenantId(tenant), 1, [fiber(), legacy()])
        self.registry = CollectorRegistry()
        self.statuses = dict.fromkeys(("postgresql", "redis", "kafka", "camunda"), Status.UP)
        self.has_started = False
        commands = Commands(self.store.unit_of_work, self.clock, CountingIds())
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.issuer.jwks))
        self.keys = SigningKeys(f"{ISSUER}/jwks.json", client, self.clock)
        self.dependencies = Dependencies(
            quotes=commands.quotes,
            orders=commands.orders,
            queries=Queries(self.store.unit_of_work, MemoryDeclaredReads(self.store.unit_of_work)),
            verifier=TokenVerifier(self.keys, issuer=ISSUER, audience=AUDIENCE),
            clock=self.clock,
            ids=CountingIds(),
            limiter=LocalRateLimiter(LIMITS, 1, self.clock),
            limits=LIMITS,
            requests=ApiMetrics(self.registry),
            order_metrics=OrderMetrics(self.registry),
            quote_metrics=QuoteMetrics(self.registry),
            metrics_registry=lambda: self.registry,
            ask_database=lambda: self.status("postgresql", required=True),
            ask_others=[functools.partial(self.status, name) for name in ("redis", "kafka", "camunda")],
            lifespan=self,
            openapi=OPENAPI,
            internal_port=INTERNAL_PORT,
        )
        self.app = create_app(self.dependencies)

    async def start(self) -> None:
        self.has_started = True

    async def stop(self) -> None:
        self.has_started = False

    async def status(self, name: str, *, required: bool = False) -> DependencyStatus:
        return DependencyStatus(name, self.statuses[name], required, f"what {name} is for", "as the test says")


class Client:
    """Requests with a valid token unless told otherwise."""

    def __init__(self, world: World, conductor: falcon.testing.ASGIConductor) -> None:
        self._world = world
        self._conductor = conductor

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        token: str | None = "valid",
        internal: bool = False,
        headers: Mapping[str, str] | None = None,
        **claims: Any,
    ) -> falcon.testing.Result:
        """Send `body` as JSON, or as it is when it is bytes."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {self._world.issuer.token(**claims) if token == 'valid' else token}"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await self._conductor.simulate_request(
            method, path, headers=sent, body=content, port=INTERNAL_PORT if internal else PUBLIC_PORT
        )

    async def create(self, key: str = "k-1", **options: Any) -> falcon.testing.Result:
        """Create the quote that most tests begin with."""
        body = options.pop("body", new_quote())
        headers = {"Idempotency-Key": key} | options.pop("headers", {})
        return await self.request("POST", "/v1/quotes", body=body, headers=headers, **options)

    async def accepted(self) -> str:
        """Take a quote up to its acceptance and return its address."""
        path = (await self.create()).json["href"]
        priced = await self.request("POST", f"{path}/price")
        await self.request("POST", f"{path}/accept", headers={"If-Match": priced.headers["etag"]})
        return str(path)

    async def convert(self, path: str, key: str = "c-1", **options: Any) -> falcon.testing.Result:
        """Convert the quote at an address."""
        return await self.request("POST", f"{path}/convert", headers={"Idempotency-Key": key}, **options)


def new_quote(**changes: Any) -> dict[str, Any]:
    """The body of a request for a quote."""
    return {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 10}]} | changes


@pytest.fixture
def world() -> World:
    """A fresh application."""
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """A client of it."""
    async with falcon.testing.ASGIConductor(world.app) as conductor:
        yield Client(world, conductor)
