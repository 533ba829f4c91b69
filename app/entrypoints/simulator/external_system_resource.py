"""An external system as the workers meet it: idempotent POST, query by idempotency key, and whatever it does today."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import falcon
from falcon.asgi import Request, Response

from app.entrypoints.simulator.behaviours import Behaviour, Behaviours, Mode
from app.entrypoints.simulator.ledger import KeyReused, Ledger
from app.runtime.logging import get_logger
from app.runtime.metrics import SimulatorMetrics
from app.runtime.shutdown import Shutdown

log = get_logger(__name__)

HANG_LIMIT = 120.0
"""Seconds after which a hanging call is dropped, so that forgotten clients do not pile up."""

_KEY_LIMIT = 255


class ExternalSystemResource:
    """One external system: POST does the work once per Idempotency-Key, GET ?idempotencyKey= tells what was done."""

    def __init__(
        self,
        system: str,
        token: str,
        *,
        behaviours: Behaviours,
        ledger: Ledger,
        metrics: SimulatorMetrics,
        shutdown: Shutdown,
    ) -> None:
        self._system = system
        self._token = f"Bearer {token}".encode()
        self._behaviours = behaviours
        self._ledger = ledger
        self._metrics = metrics
        self._shutdown = shutdown

    async def on_post(self, req: Request, resp: Response) -> None:
        """Do the work, or answer what was done before under the same key."""
        self._authenticate(req)
        key = req.get_header("Idempotency-Key") or ""
        if not key or len(key) > _KEY_LIMIT:
            raise falcon.HTTPBadRequest(title="Idempotency-Key is required")
        request = _order_request(await req.get_media())
        behaviour = await self._behave(req, key)
        if behaviour.mode.acts:
            try:
                effect, is_new = self._ledger.perform(self._system, key, request)
            except KeyReused:
                raise falcon.HTTPUnprocessableEntity(title="Idempotency-Key came before with another request") from None
            log.info("performed" if is_new else "replayed", system=self._system, idempotency_key=key)
            resp.status = falcon.HTTP_201 if is_new else falcon.HTTP_200
            resp.media = effect.document()
            self._metrics.request(self._system, "performed" if is_new else "replayed")
        else:
            self._metrics.request(self._system, "not_performed")
        await self._distort(resp, behaviour)

    async def on_get(self, req: Request, resp: Response) -> None:
        """List what was done under a key: one entry, or none."""
        self._authenticate(req)
        key = req.get_param("idempotencyKey", required=True)
        behaviour = await self._behave(req, key)
        effect = self._ledger.find(self._system, key)
        resp.media = {"items": [] if effect is None else [effect.document()]}
        self._metrics.request(self._system, "queried")
        await self._distort(resp, behaviour)

    def _authenticate(self, req: Request) -> None:
        if not hmac.compare_digest((req.auth or "").encode(), self._token):
            raise falcon.HTTPUnauthorized(title="Wrong bearer token")

    async def _behave(self, req: Request, key: str) -> Behaviour:
        behaviour = self._behaviours.take(self._system, req.method)
        self._ledger.arrived(self._system, req.method, key, behaviour.mode)
        if behaviour.latency:
            await asyncio.sleep(behaviour.latency.total_seconds())
        return behaviour

    async def _distort(self, resp: Response, behaviour: Behaviour) -> None:
        """Turn the answer into what the mode wants the caller to see."""
        if behaviour.mode in {Mode.ERROR, Mode.ACT_THEN_ERROR}:
            raise falcon.HTTPError(behaviour.status, title=f"{self._system} is told to fail")
        if behaviour.mode in {Mode.HANG, Mode.ACT_THEN_TIMEOUT}:
            await self._shutdown.sleep(HANG_LIMIT)
            raise falcon.HTTPGatewayTimeout(title=f"{self._system} is told not to answer")
        if behaviour.mode is Mode.ACT_THEN_BROKEN_REPLY:
            resp.status = falcon.HTTP_201
            resp.media = None
            resp.text = '{"id": "'


def _order_request(document: Any) -> dict[str, Any]:
    """Check the one thing every external system needs: whose order it is."""
    if isinstance(document, dict) and all(
        isinstance(document.get(name), str) and document[name] for name in ("orderId", "tenantId")
    ):
        return document
    raise falcon.HTTPUnprocessableEntity(title="orderId and tenantId are required")
