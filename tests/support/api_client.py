"""A client of the released API: a token from the issuer, and the four calls that make an order."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from tests.support.released_host import ReleasedHost

TENANT = "acme-telecom"
SCOPES = "quote:read quote:write order:read order:write catalog:read"
TIMEOUT_SECONDS = 30


class ApiClient:
    """Talks HTTP to the API and the simulator of a released host, as a customer's system would."""

    def __init__(self, host: ReleasedHost, tenant: str = TENANT, client: str = "tests") -> None:
        self.simulator = httpx.Client(base_url=f"http://{host.address}:8090", timeout=TIMEOUT_SECONDS)
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": host.secret("issuer_client_secret"),
            "tenant": tenant,
            "scope": SCOPES,
        }
        token = self.simulator.post("/issuer/token", data=form).raise_for_status().json()["access_token"]
        self.api = httpx.Client(
            base_url=f"http://{host.address}:8080",
            timeout=TIMEOUT_SECONDS,
            headers={"Authorization": f"Bearer {token}"},
        )

    def close(self) -> None:
        self.api.close()
        self.simulator.close()

    def quote(self) -> str:
        """Create a quote and return its path."""
        body = {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 1}]}
        answer = self.api.post("/v1/quotes", json=body, headers={"Idempotency-Key": str(uuid.uuid4())})
        return str(answer.raise_for_status().headers["Location"])

    def order(self) -> dict[str, Any]:
        """Take a quote all the way to an order."""
        path = self.quote()
        priced = self.api.post(f"{path}/price").raise_for_status()
        accepted = self.api.post(f"{path}/accept", headers={"If-Match": priced.headers["ETag"]}).raise_for_status()
        headers = {"Idempotency-Key": str(uuid.uuid4()), "If-Match": accepted.headers["ETag"]}
        order: dict[str, Any] = self.api.post(f"{path}/convert", headers=headers).raise_for_status().json()
        return order

    def ledger(self, order_id: str) -> list[dict[str, Any]]:
        """What the external systems really did for an order."""
        answer = self.simulator.get("/control/ledger", params={"orderId": order_id}).raise_for_status()
        effects: list[dict[str, Any]] = answer.json()["effects"]
        return effects

    def behave(self, system: str, **behaviour: Any) -> None:
        """Set how an external system answers from now on; without arguments, well."""
        self.simulator.put(f"/control/behaviours/{system}", json=behaviour).raise_for_status()
