"""What an external system says it did, page by page: GET of its collection with `since`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import httpx

from app.adapters.http.answers import json_of, plain
from app.adapters.http.proven_endpoint import objection
from app.application.external_reconciliation import ListedEffect
from app.application.operations import OperationError
from app.contracts.loader import ExternalSystemPolicy

_FAILED = "failed"


class SystemNotComparedError(OperationError):
    """The system does not answer, does not prove its environment, or does not list so that it can be relied on."""


class HttpEffectList:
    """See `app.application.external_reconciliation.EffectList`.

    Args:
        client: sends no credential by itself.
        name: the system's name, for messages.
        policy: what is declared about the system.
        base_url: where the system is in this environment.
        token: the bearer token; sent only after the endpoint has proved its environment.
        kind: the kind of environment it has to prove.
        environment: ours; effects under keys of others are none of our business.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        policy: ExternalSystemPolicy,
        *,
        base_url: str,
        token: str,
        kind: str,
        environment: str,
    ) -> None:
        self._client = client
        self._name = name
        self._policy = policy
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._kind = kind
        self._environment = environment

    async def since(self, moment: datetime) -> list[ListedEffect]:
        found = await objection(self._client, self._name, self._base_url, self._kind)
        if found is not None:
            raise SystemNotComparedError(found.text)
        effects: dict[str, ListedEffect] = {}
        while True:
            items, is_whole = await self._page(moment)
            listed = [self._effect(item) for item in items if not (isinstance(item, dict) and _is_undone(item))]
            effects |= {effect.reference: effect for effect in listed}
            if is_whole:
                break
            # The next page begins where this one ends, with what was done at the very same time once more.
            last = max((self._moment(item) for item in items), default=moment)
            if last <= moment:
                raise SystemNotComparedError(f"{self._name}: lists more than a page of the same time")
            moment = last
        own = f"{self._environment}:"
        return [effect for effect in effects.values() if effect.idempotency_key.startswith(own)]

    async def _page(self, moment: datetime) -> tuple[list[Any], bool]:
        url = f"{self._base_url}/{self._policy.endpoint.collection}"
        try:
            async with asyncio.timeout(self._policy.timeout.total_seconds()):
                response = await self._client.get(url, params={"since": moment.isoformat()}, headers=self._headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise SystemNotComparedError(f"{self._name}: {type(error).__name__}") from error
        document = json_of(response) if response.status_code == HTTPStatus.OK else None
        items = document.get("items") if isinstance(document, dict) else None
        is_whole = document.get("isWhole") if isinstance(document, dict) else None
        if not isinstance(items, list) or not isinstance(is_whole, bool):
            raise SystemNotComparedError(f"{self._name}: {response.status_code}, not a list of what was done")
        return items, is_whole

    def _effect(self, item: Any) -> ListedEffect:
        reference, key = (item.get("id"), item.get("idempotencyKey")) if isinstance(item, dict) else (None, None)
        if not isinstance(reference, str) or not isinstance(key, str) or not reference or not key:
            raise SystemNotComparedError(f"{self._name}: lists something without a name or a key")
        return ListedEffect(plain(reference), plain(key), self._moment(item))

    def _moment(self, item: Mapping[str, Any]) -> datetime:
        try:
            moment = datetime.fromisoformat(item["performedAt"])
        except (TypeError, ValueError, LookupError):
            moment = None
        if moment is None or moment.tzinfo is None:
            raise SystemNotComparedError(f"{self._name}: lists something without a time")
        return moment


def _is_undone(item: Mapping[str, Any]) -> bool:
    """Whether the work failed there: it had no effect."""
    return item.get("state") == _FAILED
