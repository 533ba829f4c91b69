"""Customers of a rehearsal: they order without a pause, repeat what was not answered, and note what was acknowledged and when.

A program of its own, because it runs in the rehearsal's network: `python -m tests.rehearsal.customers SETTINGS`, where SETTINGS is JSON
with `api`, `issuer`, `secret`, `tenant`, `authority` (a file, read for each request, for roots change), `rest` (seconds from an answer to a
customer's next order), or `rate` (orders a second of all customers together, begun when they are due whatever became of those before) and
`customers` (how many there are). It orders until its standard input ends, then prints JSON: `orders` (id by idempotency key), `answered` (seconds
since its start, one for each acknowledged order), `took` (seconds from the moment when it was due, one for each of them), `pause` (the longest time between two of them), `failed` (attempts that got no answer or
a refusal that a repeat may change), `gave_up` (customers who went away, and why), `missing` (acknowledged orders that are not there),
`unfinished` (state by id of those that were not completed within `COMPLETED_SECONDS`).
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
import uuid
from itertools import pairwise
from typing import Any

import httpx

CUSTOMERS = 2
PATIENCE_SECONDS = 5
# Longer than any outage that is bearable: a customer who got no answer by then is told of.
INSIST_SECONDS = 90
# Longer than an engine waits for the job of a worker that is lost (60 s).
COMPLETED_SECONDS = 150
# A token is good for five minutes.
RENEWAL_SECONDS = 180
SCOPES = "quote:read quote:write order:read order:write catalog:read"


class Customers:
    """Shared by the threads of all customers."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.is_over = threading.Event()
        self.began = time.monotonic()
        self.orders: dict[str, str] = {}
        self.answered: list[float] = []
        self.took: list[float] = []
        self.due = 0
        self.failed: list[str] = []
        self.gave_up: list[str] = []
        self.authorization = ""
        self.until = 0.0
        self.one_at_a_time = threading.Lock()

    def client(self, seconds: float = PATIENCE_SECONDS) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.settings["authority"])
        return httpx.Client(base_url=self.settings["api"], timeout=seconds, verify=context, trust_env=False)

    def bearer(self) -> dict[str, str]:
        """Return the header that lets a customer in, renewed long before it ends."""
        with self.one_at_a_time:
            if time.monotonic() > self.until:
                self.authorization = f"Bearer {self.token()}"
                self.until = time.monotonic() + RENEWAL_SECONDS
            return {"Authorization": self.authorization}

    def token(self) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": "tests",
            "client_secret": self.settings["secret"],
            "tenant": self.settings["tenant"],
            "scope": SCOPES,
        }
        with self.client(30) as client:
            answer = client.post(f"{self.settings['issuer']}/token", data=form).raise_for_status()
        return str(answer.json()["access_token"])

    def insist(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> httpx.Response:
        """Send one request until it is answered for good; the key makes a repeat the same request.

        Raises:
            TimeoutError: it was not within `INSIST_SECONDS`.
        """
        until = time.monotonic() + INSIST_SECONDS
        while time.monotonic() < until:
            try:
                with self.client() as client:
                    answer = client.request(method, path, headers=headers, json=body)
                if answer.status_code < 500 and "Retry-After" not in answer.headers:
                    return answer.raise_for_status()
                self.failed.append(f"{method} {path} {answer.status_code}")
            except httpx.TransportError as error:
                self.failed.append(f"{method} {path} {type(error).__name__}")
            time.sleep(0.2)
        raise TimeoutError(f"{method} {path}: {self.failed[-1]}")

    def tag_after(self, path: str, act: str, headers: dict[str, str]) -> str:
        """Do something to a quote and return its entity tag after it."""
        try:
            answer = self.insist("POST", f"{path}/{act}", headers)
        except httpx.HTTPStatusError:
            # An attempt that was not answered had been carried out: what is there now says so.
            answer = self.insist("GET", path, headers)
        return answer.headers["ETag"]

    def order(self) -> None:
        bearer = self.bearer()
        body = {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 1}]}
        path = self.insist("POST", "/v1/quotes", {**bearer, "Idempotency-Key": str(uuid.uuid4())}, body).headers[
            "Location"
        ]
        tag = self.tag_after(path, "price", bearer)
        tag = self.tag_after(path, "accept", {**bearer, "If-Match": tag})
        key = str(uuid.uuid4())
        order = self.insist("POST", f"{path}/convert", {**bearer, "Idempotency-Key": key, "If-Match": tag}).json()
        self.orders[key] = order["id"]
        self.answered.append(round(time.monotonic() - self.began, 3))

    def next_due(self) -> float:
        """Return when the next order is due: at once, or where customers have a rate together, in its turn."""
        rate = self.settings.get("rate")
        if not rate:
            return time.monotonic()
        with self.one_at_a_time:
            self.due += 1
            return float(self.began + self.due / rate)

    def run(self) -> None:
        while not self.is_over.is_set():
            due = self.next_due()
            if self.is_over.wait(max(0.0, due - time.monotonic())):
                return
            try:
                self.order()
            except (TimeoutError, httpx.HTTPError) as error:
                self.gave_up.append(str(error))
                return
            self.took.append(round(time.monotonic() - due, 3))
            self.is_over.wait(self.settings.get("rest", 0))

    def states(self) -> dict[str, str]:
        """Wait until every acknowledged order is completed; return the state of each, empty for one that is not there."""
        until = time.monotonic() + COMPLETED_SECONDS
        states = dict.fromkeys(self.orders.values(), "")
        left = list(states)
        while left and time.monotonic() < until:
            for order in left:
                try:
                    states[order] = self.insist("GET", f"/v1/orders/{order}", self.bearer()).json()["state"]
                except (TimeoutError, httpx.HTTPStatusError):
                    states[order] = ""
            left = [order for order in left if states[order] != "completed"]
        return states


def main() -> None:
    """Order until standard input ends, then tell."""
    customers = Customers(json.loads(sys.argv[1]))
    customers.bearer()
    threads = [threading.Thread(target=customers.run) for _ in range(customers.settings.get("customers", CUSTOMERS))]
    for thread in threads:
        thread.start()
    print("ordering", flush=True)
    sys.stdin.read()
    customers.is_over.set()
    for thread in threads:
        thread.join()
    failed = list(customers.failed)
    states = customers.states()
    told = {
        "orders": customers.orders,
        "answered": customers.answered,
        "took": customers.took,
        "pause": max(
            (later - earlier for earlier, later in pairwise(sorted(customers.answered))), default=float("inf")
        ),
        "failed": failed,
        "gave_up": customers.gave_up,
        "missing": [order for order, state in states.items() if not state],
        "unfinished": {order: state for order, state in states.items() if state not in {"", "completed"}},
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
