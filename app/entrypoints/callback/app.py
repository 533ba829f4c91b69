"""The receiver's URL map: one address per external system and tenant, where only what is signed for both is read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

import falcon
import falcon.asgi
import msgspec
from falcon.asgi import Request, Response

from app.application.callbacks import CallbackTransaction, ReceivedCallback, receive
from app.contracts.callbacks import SIGNATURE_HEADER, TIMESTAMP_HEADER, CallbackV1, callback_path, signature, tenant_key
from app.messaging.retry import Unavailable
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.metrics import CallbackMetrics
from app.runtime.tracing import TracedRequests, tag

log = get_logger(__name__)

MAX_BODY_BYTES = 16 * 1024
_TENANT = "abcdefghijklmnopqrstuvwxyz0123456789-"
_TENANT_LIMIT = 63

OpenTransaction = Callable[[str], AbstractAsyncContextManager[CallbackTransaction]]


@dataclass(frozen=True, slots=True)
class Sender:
    """A system that calls back: what its keys are made from (two secrets while one is rotated), and how old its timestamps may be."""

    secrets: Sequence[str]
    window: timedelta


class CallbackResource:
    """POST /v1/callbacks/{system}/{tenant}.

    401: not signed by that system for that tenant, or not now. 404: no such system, or the tenant has no such call; it looks
    the same for a call of another tenant. 409: an identifier that came with another body. 200: written down, now or before.
    """

    def __init__(
        self, senders: Mapping[str, Sender], transaction: OpenTransaction, clock: Clock, metrics: CallbackMetrics
    ) -> None:
        self._senders = senders
        self._transaction = transaction
        self._clock = clock
        self._metrics = metrics

    async def on_post(self, req: Request, resp: Response, system: str, tenant: str) -> None:
        """Take a callback."""
        sender = self._senders.get(system)
        if sender is None or not 0 < len(tenant) <= _TENANT_LIMIT or set(tenant) - set(_TENANT):
            self._metrics.received("none", "unknown")
            raise falcon.HTTPNotFound
        body = await _body(req)
        self._authenticate(req, system, tenant, sender, body)
        try:
            document = msgspec.json.decode(body, type=CallbackV1)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._metrics.received(system, "malformed")
            raise falcon.HTTPUnprocessableEntity(title="Not a callback", description=str(error)) from None
        callback = ReceivedCallback(
            external_system=system,
            tenant_id=tenant,
            callback_id=document.callback_id,
            idempotency_key=document.idempotency_key,
            order_id=document.order_id,
            external_reference=document.id,
            outcome=document.outcome,
            detail=document.detail,
            occurred_at=document.occurred_at,
            received_at=self._clock.now(),
            body_sha256=hashlib.sha256(body).hexdigest(),
        )
        tag(tenant=tenant, order_id=str(document.order_id), system=system)
        try:
            async with self._transaction(tenant) as transaction:
                result = await receive(transaction, callback)
        except Unavailable as error:
            self._metrics.received(system, "unavailable")
            raise falcon.HTTPServiceUnavailable(title="Try again", retry_after=2) from error
        self._metrics.received(system, result)
        log.info(
            "callback", system=system, tenant=tenant, callback_id=callback.callback_id,
            idempotency_key=callback.idempotency_key, outcome=callback.outcome, result=result,
        )  # fmt: skip
        if result == "unknown":
            raise falcon.HTTPNotFound
        if result == "contradiction":
            raise falcon.HTTPConflict(title="The identifier came before with another body")
        resp.media = {"callbackId": callback.callback_id, "result": result}

    def _authenticate(self, req: Request, system: str, tenant: str, sender: Sender, body: bytes) -> None:
        """Hold signature and time against the key of this system and tenant; why it fails is for our log alone."""
        stamp, given = req.get_header(TIMESTAMP_HEADER) or "", req.get_header(SIGNATURE_HEADER) or ""
        problem = ""
        # So many digits last for 300 years, and no number is read that could hurt.
        if not stamp.isascii() or not stamp.isdecimal() or len(stamp) > len("9999999999"):
            problem = "no timestamp"
        else:
            keys = [tenant_key(secret, system, tenant) for secret in sender.secrets]
            if not any(hmac.compare_digest(signature(key, int(stamp), body).encode(), given.encode()) for key in keys):
                problem = "wrong signature"
            elif abs(self._clock.now().timestamp() - int(stamp)) > sender.window.total_seconds():
                problem = "timestamp outside the window"
        if problem:
            self._metrics.received(system, "unauthenticated")
            log.warning("callback refused", system=system, tenant=tenant, problem=problem)
            raise falcon.HTTPUnauthorized(title="Not signed for this address and time")


class HealthResource:
    """Whether the receiver answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer."""
        resp.media = {"status": "ready"}


def create_app(
    senders: Mapping[str, Sender], transaction: OpenTransaction, clock: Clock, metrics: CallbackMetrics
) -> falcon.asgi.App[Request, Response]:
    """Wire the resources.

    Args:
        senders: the systems that call back.
        transaction: opens a tenant's transaction.
        clock: wall time.
        metrics: counts what came.
    """
    app = falcon.asgi.App(middleware=[TracedRequests("/health/")])
    app.req_options.strip_url_path_trailing_slash = False
    app.add_error_handler(Exception, _unexpected)
    app.add_route(callback_path("{system}", "{tenant}"), CallbackResource(senders, transaction, clock, metrics))
    app.add_route("/health/ready", HealthResource())
    return app


async def _unexpected(req: Request, _resp: Response, error: Exception, _params: Mapping[str, str]) -> None:
    """Nothing of an unforeseen error leaves the process, and the process goes on."""
    if isinstance(error, falcon.HTTPError):
        raise error
    log.error("unexpected error", path=req.path, error=f"{type(error).__name__}: {error}")
    raise falcon.HTTPInternalServerError


async def _body(req: Request) -> bytes:
    """Read the body as it was signed, and no more of it than a callback has."""
    body = b""
    async for chunk in req.stream:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise falcon.HTTPContentTooLarge(title=f"A callback has at most {MAX_BODY_BYTES} bytes")
    return body
