"""One shape for every external system: POST does the work once per Idempotency-Key, GET ?idempotencyKey= tells of it.

What matters is what is known of the effect. A call that never left, and a refusal, had none. Everything else that is
not a readable answer is unknown: a timeout, a lost connection, a broken reply, any 5xx.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx

from app.application.ports import CallDone, CallNotDone, CallOutcome, CallRefused, CallUnknown

# The request never reached the system: there was no connection to send it on.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_CONNECT_SECONDS = 2.0
# Refused before acting, and not because of the order: our credential, the address, or the moment is wrong.
_NOT_THE_ORDER = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class HttpExternalSystem:
    """See `app.application.ports.ExternalSystem`.

    Args:
        client: shared by the systems of a process; opened and closed by its owner.
        name: the system's name, for messages.
        url: the collection that calls are posted to.
        token: the bearer token.
        timeout: for a call or a query from first byte to last, connection included.
    """

    def __init__(self, client: httpx.AsyncClient, name: str, url: str, token: str, timeout: timedelta) -> None:
        self._client = client
        self._name = name
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._total = timeout.total_seconds()
        # A connection that does not come about is noticed before the whole time is up: then nothing was sent.
        connect = min(_CONNECT_SECONDS, self._total / 2)
        self._timeout = httpx.Timeout(self._total, connect=connect, pool=connect)

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        try:
            async with asyncio.timeout(self._total):
                response = await self._client.post(
                    self._url,
                    json=request,
                    headers={**self._headers, "Idempotency-Key": idempotency_key},
                    timeout=self._timeout,
                )
        except _NOT_SENT as error:
            return CallNotDone(self._describe(error))
        except (httpx.HTTPError, TimeoutError) as error:
            return CallUnknown(self._describe(error))
        return self._outcome(response)

    def _outcome(self, response: httpx.Response) -> CallOutcome:
        """Say what an answer to a call proves."""
        status = response.status_code
        if response.is_success:
            reference = _reference(_json(response))
            return CallDone(reference, status) if reference else CallUnknown(f"{self._name}: unreadable answer", status)
        error = f"{self._name}: {status} {_title(response)}".strip()
        if status in _NOT_THE_ORDER:
            return CallNotDone(error, status)
        if response.is_client_error and status != HTTPStatus.REQUEST_TIMEOUT:
            return CallRefused(error, status)
        return CallUnknown(error, status)

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        try:
            async with asyncio.timeout(self._total):
                response = await self._client.get(
                    self._url, params={"idempotencyKey": idempotency_key}, headers=self._headers, timeout=self._timeout
                )
        except (httpx.HTTPError, TimeoutError) as error:
            return CallUnknown(self._describe(error))
        document = _json(response)
        items = document.get("items") if response.status_code == HTTPStatus.OK and isinstance(document, dict) else None
        if not isinstance(items, list):
            return CallUnknown(f"{self._name}: {response.status_code}, not a list of items", response.status_code)
        if not items:
            return CallNotDone(f"{self._name}: nothing was done", response.status_code)
        reference = _reference(items[0])
        if reference is None:
            return CallUnknown(f"{self._name}: unreadable item", response.status_code)
        return CallDone(reference, response.status_code)

    def _describe(self, error: Exception) -> str:
        return f"{self._name}: {type(error).__name__} {error}".strip()


def new_client() -> httpx.AsyncClient:
    """The client of a process: no proxy from the environment, no redirects, connections kept."""
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        verify=ssl.create_default_context(),
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
    )


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _reference(document: Any) -> str | None:
    """The system's own name for what it did; without one the answer proves nothing."""
    reference = document.get("id") if isinstance(document, dict) else None
    return reference if isinstance(reference, str) and reference else None


def _title(response: httpx.Response) -> str:
    document = _json(response)
    title = document.get("title") if isinstance(document, dict) else None
    return title[:200] if isinstance(title, str) else ""
