"""An endpoint proves which kind of environment it belongs to before anything is sent to it, our credential included.

Below its base URL it answers GET /.well-known/environment without authentication: its environment's name and kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx

from app.adapters.http.answers import json_of, plain
from app.application.ports import CallDone, CallNotDone, CallOutcome, CallUnknown, ExternalSystem
from app.runtime.clock import Clock

_PATH = "/.well-known/environment"
_SECONDS = 2.0
_KEPT_SECONDS = 60.0
_PAUSE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an endpoint must not be used; `is_wrong` when it answered, and not with the proof that is needed."""

    text: str
    is_wrong: bool


async def objection(client: httpx.AsyncClient, system: str, base_url: str, expected: str) -> Objection | None:
    """Ask an endpoint for its proof; None when it may be used.

    Args:
        client: sends no credential by itself.
        system: the external system, for the message.
        base_url: its endpoint.
        expected: the kind of environment that this one is.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            response = await client.get(f"{base_url}{_PATH}", headers={"Accept": "application/json"})
    except (httpx.HTTPError, TimeoutError) as error:
        return Objection(f"{system}: {base_url} does not prove its environment: {type(error).__name__}", is_wrong=False)
    proof: Any = json_of(response) if response.status_code == HTTPStatus.OK else None
    kind = proof.get("kind") if isinstance(proof, dict) else None
    if not isinstance(kind, str):
        text = f"{system}: {base_url} does not prove its environment: {response.status_code}, no kind"
        return Objection(text, is_wrong=True)
    if kind == expected:
        return None
    name = str(proof.get("environment"))[:60]
    text = f"{system}: {base_url} belongs to {name!r}, which is {plain(kind[:60])}; this environment is {expected}"
    return Objection(text, is_wrong=True)


async def wrong_endpoints(client: httpx.AsyncClient, endpoints: Mapping[str, str], expected: str) -> list[str]:
    """Ask all endpoints at once; a line for each that answers and does not prove what is needed.

    Args:
        client: sends no credential by itself.
        endpoints: base URLs, by system.
        expected: the kind of environment that this one is.
    """
    asked = (objection(client, system, url, expected) for system, url in endpoints.items())
    return [found.text for found in await asyncio.gather(*asked) if found is not None and found.is_wrong]


class ProvenEndpoint:
    """See `app.application.ports.ExternalSystem`.

    A proof holds for a minute; without one nothing is sent, and a later call asks again. Calls that wait while one asks go by
    the answer that it gets, good or bad: an endpoint that hangs costs each of them one time-out, not one for each before it.

    Args:
        client: shared by the systems of a process.
        system: the system's name.
        inner: the system behind the endpoint.
        base_url: the endpoint.
        expected: the kind of environment it has to prove.
        clock: monotonic time.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        system: str,
        inner: ExternalSystem,
        *,
        base_url: str,
        expected: str,
        clock: Clock,
    ) -> None:
        self._client = client
        self._system = system
        self._inner = inner
        self._base_url = base_url
        self._expected = expected
        self._clock = clock
        self._proven_until = clock.monotonic()
        self._asking = asyncio.Lock()
        self._answers = 0
        self._last: Objection | None = None

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        found = await self._objection()
        if found is not None:
            return CallNotDone(found.text, retry_after=_PAUSE if found.is_wrong else None)
        return await self._inner.call(idempotency_key, request)

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        found = await self._objection()
        if found is not None:
            return CallUnknown(found.text, retry_after=_PAUSE if found.is_wrong else None)
        return await self._inner.find(idempotency_key)

    async def _objection(self) -> Objection | None:
        answers_before = self._answers
        async with self._asking:
            if self._clock.monotonic() < self._proven_until:
                return None
            if self._answers == answers_before:
                self._last = await objection(self._client, self._system, self._base_url, self._expected)
                self._answers += 1
                if self._last is None:
                    self._proven_until = self._clock.monotonic() + _KEPT_SECONDS
            return self._last
