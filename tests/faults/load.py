"""Customers of several tenants: each takes a quote to an order over HTTP and repeats what was not answered.

A customer repeats with the same key until an answer is definite, as the API's documentation asks for. Its pace is
given, its number is bounded, and everything it says and hears is in the journal.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.faults.journal import Journal

PRINCIPAL = "faults"
SCOPES = "quote:read quote:write order:read order:write catalog:read"
OFFERINGS = ("fiber-1000", "router-9")
_PATIENCE_SECONDS = 90.0
_TIMEOUT_SECONDS = 12.0
_PAUSE_SECONDS = 0.4
_REPEATABLE = {429, 500, 502, 503, 504}
_REPEATABLE_CODES = {"concurrent-change", "request-in-flight"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of one run; `canary` is part of everything of its own that it can name."""

    tenant_id: str
    canary: str
    number: int

    def catalog(self) -> dict[str, Any]:
        """What it sells: the same offerings as its neighbours at prices of its own."""
        return {
            "tenant_id": self.tenant_id,
            "display_name": f"{self.canary} Ltd",
            "default_currency": "EUR",
            "offerings": [
                {
                    "offering_id": offering,
                    "name": f"{offering} of {self.canary}",
                    "product_line": "internet",
                    "is_sellable": True,
                    "service_specification": f"access-{self.canary}",
                    "prices": [
                        {"price_type": "oneTime", "currency": "EUR", "unit_amount": f"{40 + index + self.number}.905"},
                        {
                            "price_type": "recurring",
                            "currency": "EUR",
                            "unit_amount": f"{19 + index + 3 * self.number}.335",
                            "recurring_period": "month",
                        },
                    ],
                    "tiers": [
                        {
                            "price_type": "recurring",
                            "min_quantity": 3,
                            "discount_percent": f"{5 + self.number}.5",
                            "reason": "volume",
                        }
                    ],
                }
                for index, offering in enumerate(OFFERINGS)
            ],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status None when nothing did."""

    status: int | None
    headers: Mapping[str, str]
    document: Any

    @property
    def is_definite(self) -> bool:
        """Whether there is nothing to be gained by asking again."""
        if self.status is None or self.status in _REPEATABLE:
            return False
        code = self.document.get("code") if isinstance(self.document, dict) else None
        return code not in _REPEATABLE_CODES


class Load:
    """Orders at a given pace until told to finish, on a thread of its own; `orders` is the most there will ever be.

    Args:
        url: gives the API's address at each request.
        tokens: access tokens by tenant id.
        tenants: who orders.
        journal: where everything is written down.
        orders: most orders in all.
        pace: orders begun per second.
        seed: decides who orders what.
    """

    def __init__(
        self,
        url: Callable[[], str],
        tokens: Mapping[str, str],
        tenants: list[Tenant],
        journal: Journal,
        *,
        orders: int,
        pace: float,
        seed: int,
    ) -> None:
        self._url = url
        self._tokens = tokens
        self._tenants = tenants
        self._journal = journal
        self._orders = orders
        self._pace = pace
        self._seed = seed
        self._placed: list[tuple[Tenant, str]] = []
        self._is_finishing = threading.Event()
        self.accepted = 0
        self.given_up: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Let no new customer in; whether all that are there are done in time."""
        self._is_finishing.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def newest(self) -> str:
        """The order that was accepted last."""
        return self._placed[-1][1]

    def wait_accepted(self, count: int, seconds: float) -> bool:
        """Whether so many orders are accepted in time."""
        end = time.monotonic() + seconds
        while self.accepted < count and time.monotonic() < end:
            time.sleep(0.05)
        return self.accepted >= count

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=20, max_keepalive_connections=10)
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False, limits=limits) as client:
            customers = []
            for number in range(self._orders):
                if self._is_finishing.is_set():
                    break
                tenant = self._tenants[number % len(self._tenants)]
                customers.append(asyncio.create_task(self._customer(client, tenant, number)))
                await asyncio.sleep(1 / self._pace)
            await asyncio.gather(*customers)

    async def _customer(self, client: httpx.AsyncClient, tenant: Tenant, number: int) -> None:
        # What they order follows from the seed alone: the tenants' names are new at every run.
        chance = random.Random(f"{self._seed} {number}")
        customer = _Customer(self, client, tenant, f"{tenant.canary}-{number}")
        if not await self._order(customer, chance):
            self.given_up.append(customer.intent)

    async def _order(self, customer: _Customer, chance: random.Random) -> bool:
        """Take a quote to an order; whether it was accepted."""
        keys = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(2)]
        items = [{"offeringId": chance.choice(OFFERINGS), "quantity": chance.randint(1, 5)}]
        body = {"customerId": customer.intent, "currency": "EUR", "items": items}
        created = await customer.insist("create-quote", "POST", "/v1/quotes", body=body, key=keys[0])
        if created.status != 201:
            return False
        quote_id = str(created.document["id"])
        path = f"/v1/quotes/{quote_id}"
        priced = await customer.insist("price-quote", "POST", f"{path}/price", subject=quote_id)
        if priced.status != 200:
            return False
        if not await self._accept(customer, path, quote_id):
            return False
        ordered = await customer.insist("convert-quote", "POST", f"{path}/convert", subject=quote_id, key=keys[1])
        if ordered.status != 201:
            return False
        self.accepted += 1
        order_id = str(ordered.document["id"])
        self._placed.append((customer.tenant, order_id))
        await self._look_around(customer, quote_id, order_id, keys[1])
        return True

    @staticmethod
    async def _accept(customer: _Customer, path: str, quote_id: str) -> bool:
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            read = await customer.insist("read-quote", "GET", path, subject=quote_id)
            if read.status != 200:
                return False
            if read.document["state"] == "accepted":
                return True
            answer = await customer.ask(
                "accept-quote", "POST", f"{path}/accept", subject=quote_id, headers={"If-Match": read.headers["etag"]}
            )
            if answer.status == 200:
                return True
            await asyncio.sleep(_PAUSE_SECONDS)
        return False

    async def _look_around(self, customer: _Customer, quote_id: str, order_id: str, key: str) -> None:
        """Repeat the order, read it, and try what is not there for this tenant: another's order and none at all."""
        await customer.insist("convert-quote", "POST", f"/v1/quotes/{quote_id}/convert", subject=quote_id, key=key)
        await customer.insist("read-order", "GET", f"/v1/orders/{order_id}", subject=order_id)
        await customer.insist("read-catalog", "GET", "/v1/catalog/offerings")
        foreign = [placed for owner, placed in self._placed if owner != customer.tenant]
        if foreign:
            await customer.insist("foreign-order", "GET", f"/v1/orders/{foreign[-1]}", subject=foreign[-1])
            await customer.insist("absent-order", "GET", f"/v1/orders/{uuid.uuid4()}")

    async def say(
        self, client: httpx.AsyncClient, tenant: Tenant, row: Mapping[str, Any], request: httpx.Request
    ) -> Answer:
        """Send one request, written down before and after."""
        request.headers["Authorization"] = f"Bearer {self._tokens[tenant.tenant_id]}"
        number = await asyncio.to_thread(self._journal.asked, row)
        try:
            response = await client.send(request)
        except httpx.HTTPError:
            return Answer(None, {}, None)
        text = response.text
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        made = document.get("id") if isinstance(document, dict) and response.status_code == 201 else None
        if isinstance(document, dict) and response.is_error:
            text = json.dumps({name: value for name, value in document.items() if name != "requestId"}, sort_keys=True)
        await asyncio.to_thread(
            self._journal.answered,
            number,
            response.status_code,
            text,
            quote_id=made if row["operation"] == "create-quote" else None,
            order_id=made if row["operation"] == "convert-quote" else None,
        )
        return Answer(response.status_code, dict(response.headers), document)

    def request(
        self, client: httpx.AsyncClient, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> httpx.Request:
        """Build a request to where the API is now."""
        return client.build_request(method, self._url() + path, json=body, headers=dict(headers))


@dataclass(frozen=True, slots=True)
class _Customer:
    load: Load
    client: httpx.AsyncClient
    tenant: Tenant
    intent: str

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        key: str | None = None,
        subject: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask once."""
        row = {
            "tenant_id": self.tenant.tenant_id,
            "principal": PRINCIPAL,
            "operation": operation,
            "idempotency_key": key,
            "intent": self.intent,
            "subject_id": subject,
        }
        given = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
        request = self.load.request(self.client, method, path, body, given)
        return await self.load.say(self.client, self.tenant, row, request)

    async def insist(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        key: str | None = None,
        subject: str | None = None,
    ) -> Answer:
        """Ask until the answer is definite, or the customer's patience is over."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            answer = await self.ask(operation, method, path, body=body, key=key, subject=subject)
            if answer.is_definite or time.monotonic() > end:
                return answer
            await asyncio.sleep(_PAUSE_SECONDS)
