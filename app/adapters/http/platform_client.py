"""Uses the platform as a customer's system does: a token, a quote, an order, and how far that is."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

import httpx

from app.runtime.ids import Ids

_SCOPES = "quote:read quote:write order:read order:write catalog:read"
_SHOWN = 300


class NotServedError(Exception):
    """The platform, or its issuer, did not do what a client may expect; the message says what was asked and answered."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where a client gets its tokens, and for whom.

    Args:
        token_url: the issuer's token endpoint.
        client_id: the client's name there.
        secret: proves it.
        tenant: whom it works for.
    """

    token_url: str
    client_id: str
    secret: str
    tenant: str


class PlatformClient:
    """One client; close it by `async with`.

    Args:
        base_url: address of the API, as clients use it.
        account: for whom it works.
        ca_file: certificates that are trusted besides those of the host; empty for none.
        ids: where idempotency keys come from.
        patience: seconds that one request may take.
        transport: how requests travel; httpx's own unless a test answers them.
    """

    def __init__(
        self,
        base_url: str,
        account: Account,
        ca_file: str,
        ids: Ids,
        *,
        patience: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url, self._account, self._ids = base_url, account, ids
        trust = ssl.create_default_context()
        if ca_file:
            trust.load_verify_locations(ca_file)
        self._http = httpx.AsyncClient(timeout=patience, trust_env=False, verify=trust, transport=transport)
        self._token = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def log_in(self) -> None:
        """Get a token."""
        account = self._account
        form = {"grant_type": "client_credentials", "tenant": account.tenant, "scope": _SCOPES}
        answer = await self._sent(
            "POST", account.token_url, data=form, auth=(account.client_id, account.secret), expected=HTTPStatus.OK
        )
        self._token = answer["access_token"]

    async def offerings(self) -> list[dict[str, Any]]:
        """What the tenant sells."""
        found: list[dict[str, Any]] = (await self._asked("GET", "/v1/catalog/offerings"))["offerings"]
        return found

    async def quote(self, customer: str, currency: str, offering: str) -> dict[str, Any]:
        """Ask for a price of one piece."""
        body = {"customerId": customer, "currency": currency, "items": [{"offeringId": offering, "quantity": 1}]}
        made = await self._asked("POST", "/v1/quotes", body, key=True, expected=HTTPStatus.CREATED)
        return await self._asked("POST", f"/v1/quotes/{made['id']}/price", {})

    async def order(self, quote: Mapping[str, Any]) -> dict[str, Any]:
        """Accept a priced quote and make an order of it."""
        path = f"/v1/quotes/{quote['id']}"
        await self._asked("POST", f"{path}/accept", {}, version=quote["version"])
        return await self._asked("POST", f"{path}/convert", {}, key=True, expected=HTTPStatus.CREATED)

    async def state(self, order_id: str) -> str:
        """How far an order is."""
        return str((await self._asked("GET", f"/v1/orders/{order_id}"))["state"])

    async def _asked(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: bool = False,
        version: int | None = None,
        expected: HTTPStatus = HTTPStatus.OK,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"}
        if key:
            headers["Idempotency-Key"] = str(self._ids.new())
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        return await self._sent(method, f"{self._base_url}{path}", json=body, headers=headers, expected=expected)

    async def _sent(self, method: str, url: str, *, expected: HTTPStatus, **request: Any) -> dict[str, Any]:
        """Send one request.

        Raises:
            NotServedError: no answer, another status, or no JSON.
        """
        try:
            answer = await self._http.request(method, url, **request)
        except httpx.HTTPError as error:
            raise NotServedError(f"{method} {url}: {type(error).__name__} {error}".rstrip()) from error
        if answer.status_code != expected:
            raise NotServedError(f"{method} {url} answered {answer.status_code}: {answer.text[:_SHOWN]}")
        try:
            document: dict[str, Any] = answer.json()
        except ValueError as error:
            raise NotServedError(f"{method} {url} answered what is no JSON") from error
        return document
