"""One shape for every external system: POST does the work once per idempotency key, GET with that key tells of it.

What matters is what is known of the effect. A call that never left, and a refusal, had none. Everything else that is
not a readable answer is unknown: a timeout, a lost connection, a broken reply, any 5xx. So is work that was accepted and
not finished yet: a later query, or the system's callback, tells.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx

from app.adapters.http.answers import json_of, plain
from app.application.ports import CallDone, CallNotDone, CallOutcome, CallRefused, CallUnknown
from app.contracts.callbacks import callback_path
from app.contracts.loader import ExternalSystemPolicy
from app.domain.external_calls import tenant_of
from app.runtime.tracing import current_traceparent, step, tag

# The request never reached the system: there was no connection to send it on.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_CONNECT_SECONDS = 2.0
# Refused before acting, and not because of the order: our credential or the address is wrong, or the moment is.
_NOT_THE_ORDER = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.TOO_EARLY,
    }
)
_ACCEPTED, _FAILED = "accepted", "failed"


class HttpExternalSystem:
    """See `app.application.ports.ExternalSystem`.

    Args:
        client: shared by the systems of a process; opened and closed by its owner.
        name: the system's name, for messages.
        policy: what is declared about the system.
        base_url: where the system is in this environment.
        token: the bearer token.
        callback_url: where our receiver of callbacks is; told to a system that asks for it with each call.
        timeout: asked for each call or query: the time from first byte to last, connection included.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        policy: ExternalSystemPolicy,
        *,
        base_url: str,
        token: str,
        callback_url: str,
        timeout: Callable[[], timedelta],
    ) -> None:
        self._client = client
        self._name = name
        self._policy = policy
        self._url = f"{base_url}/{policy.endpoint.collection}"
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._callback_url = callback_url
        self._timeout = timeout

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        with step(f"call {self._name}", "client", attributes={"cpq.external_system": self._name}):
            outcome = await self._call(idempotency_key, request)
            tag(outcome=type(outcome).__name__)
            return outcome

    async def _call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        total = self._timeout().total_seconds()
        try:
            async with asyncio.timeout(total):
                response = await self._client.post(
                    self._url,
                    json=request,
                    headers=self._call_headers(idempotency_key),
                    timeout=_timeout(total),
                )
        except _NOT_SENT as error:
            return CallNotDone(self._describe(error))
        except (httpx.HTTPError, TimeoutError) as error:
            return CallUnknown(self._describe(error))
        return self._outcome(response)

    def _call_headers(self, idempotency_key: str) -> dict[str, str]:
        headers = {**self._headers, **_trace(), self._policy.idempotency_key.header: idempotency_key}
        if self._policy.callback.header is not None:
            path = callback_path(self._name, tenant_of(idempotency_key))
            headers[self._policy.callback.header] = f"{self._callback_url}{path}"
        return headers

    def _outcome(self, response: httpx.Response) -> CallOutcome:
        """Say what an answer to a call proves."""
        if response.is_success:
            return self._success(response)
        status = response.status_code
        error = f"{self._name}: {status} {_title(response)}".strip()
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return CallNotDone(error, status, retry_after=self._retry_after(response))
        if status in _NOT_THE_ORDER:
            return CallNotDone(error, status)
        if response.is_client_error and status != HTTPStatus.REQUEST_TIMEOUT:
            return CallRefused(error, status)
        return CallUnknown(error, status)

    def _success(self, response: httpx.Response) -> CallDone | CallUnknown:
        status, document = response.status_code, _json(response)
        reference = _reference(document)
        if reference is None:
            return CallUnknown(f"{self._name}: unreadable answer", status)
        if status == HTTPStatus.ACCEPTED or document.get("state") == _ACCEPTED:
            return self._accepted(reference, status)
        return CallDone(reference, status)

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        with step(f"ask {self._name}", "client", attributes={"cpq.external_system": self._name}):
            outcome = await self._find(idempotency_key)
            tag(outcome=type(outcome).__name__)
            return outcome

    async def _find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        total = self._timeout().total_seconds()
        try:
            async with asyncio.timeout(total):
                response = await self._client.get(
                    self._url,
                    params={self._policy.idempotency_key.query: idempotency_key},
                    headers={**self._headers, **_trace()},
                    timeout=_timeout(total),
                )
        except (httpx.HTTPError, TimeoutError) as error:
            return CallUnknown(self._describe(error))
        return self._found(response)

    def _found(self, response: httpx.Response) -> CallDone | CallNotDone | CallUnknown:
        """Say what an answer to a query proves."""
        status = response.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            error = f"{self._name}: {status} {_title(response)}".strip()
            return CallUnknown(error, status, retry_after=self._retry_after(response))
        document = _json(response)
        items = document.get("items") if status == HTTPStatus.OK and isinstance(document, dict) else None
        if not isinstance(items, list):
            return CallUnknown(f"{self._name}: {status}, not a list of items", status)
        if not items:
            return CallNotDone(f"{self._name}: nothing was done", status)
        reference = _reference(items[0])
        if reference is None:
            return CallUnknown(f"{self._name}: unreadable item", status)
        state = items[0].get("state")
        if state == _ACCEPTED:
            return self._accepted(reference, status)
        # What failed there is refused by name when the next call comes under the same key.
        failed = CallNotDone(f"{self._name}: {reference} failed there", status)
        return failed if state == _FAILED else CallDone(reference, status)

    def _accepted(self, reference: str, status: int) -> CallUnknown:
        """Work that goes on there: there is no result to be had before the pause is over."""
        error = f"{self._name}: accepted as {reference}, not finished yet"
        return CallUnknown(error, status, retry_after=self._policy.retry.shortest_pause)

    def _retry_after(self, response: httpx.Response) -> timedelta:
        """The pause that the system asks for in seconds, within what is declared."""
        retry = self._policy.retry
        try:
            asked = timedelta(seconds=int(response.headers.get("Retry-After", "")))
        except (ValueError, OverflowError):
            return retry.shortest_pause
        return max(retry.shortest_pause, min(asked, retry.longest_pause))

    def _describe(self, error: Exception) -> str:
        return plain(f"{self._name}: {type(error).__name__} {error}".strip())


def new_client() -> httpx.AsyncClient:
    """The client of a process: no proxy from the environment, no redirects, connections kept."""
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        verify=ssl.create_default_context(),
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
    )


def _trace() -> dict[str, str]:
    """By what the called system may continue our trace."""
    traceparent = current_traceparent()
    return {"traceparent": traceparent} if traceparent else {}


def _timeout(total: float) -> httpx.Timeout:
    # A connection that does not come about is noticed before the whole time is up: then nothing was sent.
    connect = min(_CONNECT_SECONDS, total / 2)
    return httpx.Timeout(total, connect=connect, pool=connect)


def _json(response: httpx.Response) -> Any:
    """The document of an answer that says it is JSON, and is; None otherwise: a proxy's page proves nothing."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return None
    return json_of(response)


def _reference(document: Any) -> str | None:
    """The system's own name for what it did; without one the answer proves nothing."""
    reference = document.get("id") if isinstance(document, dict) else None
    return (plain(reference) or None) if isinstance(reference, str) else None


def _title(response: httpx.Response) -> str:
    document = _json(response)
    title = document.get("title") if isinstance(document, dict) else None
    return plain(title[:200]) if isinstance(title, str) else ""
