"""Durable idempotency: one Idempotency-Key has one effect, and every later request with it gets the first one's bytes.

Key, effect and answer commit in one transaction, so a lost reply, a crash before the commit and a crash after it are
all answered correctly by asking again. Refusals are not stored: nothing happened, and a later attempt may succeed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.application.ports import StoredResponse, UnitOfWork, UnitOfWorkFactory
from app.application.refusals import IdempotencyKeyReused, RequestInFlight
from app.domain.values import Actor
from app.runtime.clock import Clock

RETENTION = timedelta(hours=24)
"""How long a key is remembered; after it the same key is a new request. Part of the documented API."""


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A key and the fingerprint of the request that carries it: method, path and content."""

    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it goes over the wire."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """The answer, and whether it is a replay."""

    response: Response
    replayed: bool


async def execute_once(
    open_unit_of_work: UnitOfWorkFactory,
    clock: Clock,
    actor: Actor,
    request: IdempotentRequest,
    effect: Callable[[UnitOfWork], Awaitable[Response]],
) -> Executed:
    """Run `effect` and commit it with its answer, or return the answer of the request that did so before.

    Raises:
        RequestInFlight: another request holds the key now.
        IdempotencyKeyReused: the key belongs to another request of the same principal.
    """
    async with open_unit_of_work(actor.tenant_id) as uow:
        if not await uow.idempotency.claim(actor.principal, request.key):
            raise RequestInFlight("The first request with this Idempotency-Key is still being worked on.")
        stored = await uow.idempotency.find(actor.principal, request.key, clock.now())
        if stored is not None:
            if stored.request_sha256 != request.request_sha256:
                raise IdempotencyKeyReused("This Idempotency-Key was used before for another request.")
            return Executed(Response(stored.status_code, stored.headers, stored.body), replayed=True)
        response = await effect(uow)
        now = clock.now()
        await uow.idempotency.store(
            actor.principal,
            request.key,
            StoredResponse(request.request_sha256, response.status_code, response.headers, response.body),
            now=now,
            expires_at=now + RETENTION,
        )
        await uow.commit()
        return Executed(response, replayed=False)
