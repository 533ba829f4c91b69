"""An external system as the workers meet it: idempotent POST, query by idempotency key, and whatever it does today."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import falcon
from falcon.asgi import Request, Response

from app.contracts.loader import ExternalSystemPolicy
from app.entrypoints.simulator.behaviours import Behaviour, Behaviours, Mode
from app.entrypoints.simulator.callbacks import Finisher
from app.entrypoints.simulator.ledger import Effect, KeyReused, Ledger, Plan
from app.runtime.logging import get_logger
from app.runtime.metrics import SimulatorMetrics
from app.runtime.shutdown import Shutdown

log = get_logger(__name__)

HANG_LIMIT = 120.0
"""Seconds after which a hanging call is dropped, so that forgotten clients do not pile up."""

_KEY_LIMIT = 255
_PAGE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all systems share."""

    behaviours: Behaviours
    ledger: Ledger
    finisher: Finisher
    metrics: SimulatorMetrics
    shutdown: Shutdown


class ExternalSystemResource:
    """One external system.

    POST does the work once per idempotency key, GET with the key tells what was done, GET ?since= lists what was done from
    a moment on.
    """

    def __init__(self, system: str, policy: ExternalSystemPolicy, tokens: Sequence[str], around: Surroundings) -> None:
        self._system = system
        self._policy = policy
        self._accepted = [f"Bearer {token}".encode() for token in tokens]
        self._around = around
        self._ledger = around.ledger

    async def on_post(self, req: Request, resp: Response) -> None:
        """Do the work, or answer what was done before under the same key."""
        self._authenticate(req)
        header = self._policy.idempotency_key.header
        key = req.get_header(header) or ""
        if not key or len(key) > _KEY_LIMIT:
            raise falcon.HTTPBadRequest(title=f"{header} is required")
        request = _order_request(await req.get_media())
        behaviour = await self._behave(req, key)
        if behaviour.mode.acts:
            await self._perform(req, resp, key, request, behaviour)
        else:
            self._around.metrics.request(self._system, "not_performed")
        await self._distort(resp, behaviour)

    async def on_get(self, req: Request, resp: Response) -> None:
        """List what was done under a key (one entry, or none), or from a moment on."""
        self._authenticate(req)
        since = req.get_param("since")
        if since is not None:
            effects = self._ledger.since(self._system, _moment(since), _PAGE_LIMIT)
            resp.media = {"items": [effect.document() for effect in effects], "isWhole": len(effects) < _PAGE_LIMIT}
            return
        key = req.get_param(self._policy.idempotency_key.query, required=True)
        behaviour = await self._behave(req, key)
        effect = self._ledger.find(self._system, key)
        resp.media = {"items": [] if effect is None else [effect.document()]}
        self._around.metrics.request(self._system, "queried")
        await self._distort(resp, behaviour)

    def _authenticate(self, req: Request) -> None:
        if not any(hmac.compare_digest((req.auth or "").encode(), accepted) for accepted in self._accepted):
            raise falcon.HTTPUnauthorized(title="Wrong bearer token")

    async def _behave(self, req: Request, key: str) -> Behaviour:
        behaviour = self._around.behaviours.take(self._system, req.method, key)
        self._ledger.arrived(self._system, req.method, key, behaviour.label)
        if behaviour.latency:
            await asyncio.sleep(behaviour.latency.total_seconds())
        return behaviour

    async def _perform(
        self, req: Request, resp: Response, key: str, request: dict[str, Any], behaviour: Behaviour
    ) -> None:
        plan = self._plan(req, behaviour)
        try:
            effect, is_new = self._ledger.perform(
                self._system, key, request, plan, again=behaviour.mode is Mode.ACT_TWICE
            )
        except KeyReused:
            raise falcon.HTTPUnprocessableEntity(title="The key came before with another request") from None
        if is_new and plan is not None:
            effect = await self._go_on(effect, plan)
        if effect.state == "failed":
            raise falcon.HTTPUnprocessableEntity(title=f"{effect.reference} failed")
        log.info("performed" if is_new else "replayed", system=self._system, idempotency_key=key)
        if effect.state == "accepted":
            resp.status = falcon.HTTP_202
        else:
            resp.status = falcon.HTTP_201 if is_new else falcon.HTTP_200
        resp.media = effect.document()
        self._around.metrics.request(self._system, "performed" if is_new else "replayed")

    def _plan(self, req: Request, behaviour: Behaviour) -> Plan | None:
        """How the work goes on when it is only accepted now."""
        sandbox, callback = self._policy.sandbox, self._policy.callback
        if (behaviour.answers or sandbox.answers) == "done":
            return None
        url = req.get_header(callback.header) if callback.header else None
        after = sandbox.finishes_after or timedelta()
        if behaviour.finishes_after is not None:  # no time at all is an answer, too
            after = behaviour.finishes_after
        return self._ledger.plan(after, behaviour.finishes_as, behaviour.callbacks, url)

    async def _go_on(self, effect: Effect, plan: Plan) -> Effect:
        if plan.callbacks != "early":
            self._around.finisher.schedule(effect)
            return effect
        # The callback overtakes the answer, which still says what was true when the call came in.
        await self._around.finisher.finish(effect)
        return effect

    async def _distort(self, resp: Response, behaviour: Behaviour) -> None:
        """Turn the answer into what the mode wants the caller to see."""
        if behaviour.mode in {Mode.ERROR, Mode.ACT_THEN_ERROR}:
            headers = None if behaviour.retry_after is None else {"Retry-After": str(behaviour.retry_after)}
            raise falcon.HTTPError(behaviour.status, title=f"{self._system} is told to fail", headers=headers)
        if behaviour.mode in {Mode.HANG, Mode.ACT_THEN_TIMEOUT}:
            await self._around.shutdown.sleep(HANG_LIMIT)
            raise falcon.HTTPGatewayTimeout(title=f"{self._system} is told not to answer")
        if behaviour.mode is Mode.ACT_THEN_BROKEN_REPLY:
            resp.status = falcon.HTTP_201
            resp.media = None
            resp.text = '{"id": "'
        if behaviour.mode is Mode.ACT_THEN_WRONG_CONTENT_TYPE:
            resp.status = falcon.HTTP_201
            resp.media = None
            resp.content_type = falcon.MEDIA_HTML
            resp.text = '{"id": "page"}'


class EnvironmentResource:
    """/.well-known/environment below a system's base URL: which environment the endpoint belongs to."""

    def __init__(self, environment: str, kind: str) -> None:
        self._healthy: dict[str, str] = {"environment": environment, "kind": kind}
        self._proof: dict[str, str] | None = self._healthy

    def set(self, proof: dict[str, str] | None) -> None:
        """Answer something else from now on; None for an endpoint that proves nothing."""
        self._proof = proof

    def reset(self) -> None:
        """Tell the truth again."""
        self._proof = self._healthy

    async def on_get(self, req: Request, resp: Response) -> None:
        """Prove the environment; no credential is asked for, since none may be sent before this."""
        if self._proof is None:
            raise falcon.HTTPNotFound
        resp.media = self._proof


def _order_request(document: Any) -> dict[str, Any]:
    """Check the one thing every external system needs: whose order it is."""
    if isinstance(document, dict) and all(
        isinstance(document.get(name), str) and document[name] for name in ("orderId", "tenantId")
    ):
        return document
    raise falcon.HTTPUnprocessableEntity(title="orderId and tenantId are required")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise falcon.HTTPBadRequest(title="since must be an ISO 8601 time") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
