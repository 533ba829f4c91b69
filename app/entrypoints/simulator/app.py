"""The simulator's URL map: an issuer, the external systems of fulfillment, and the controls of both."""

from __future__ import annotations

from collections.abc import Mapping

import falcon.asgi
from falcon.asgi import Request, Response

from app.entrypoints.simulator.behaviours import Behaviours
from app.entrypoints.simulator.control_resource import BehavioursResource, LedgerResource
from app.entrypoints.simulator.external_system_resource import ExternalSystemResource
from app.entrypoints.simulator.issuer import Issuer
from app.entrypoints.simulator.issuer_resource import IssuerResource
from app.entrypoints.simulator.ledger import Ledger
from app.runtime.metrics import SimulatorMetrics
from app.runtime.shutdown import Shutdown

COLLECTIONS = {
    "inventory": "/inventory/v1/reservations",
    "provisioning": "/provisioning/v1/activations",
    "billing": "/billing/v1/subscriptions",
}


class HealthResource:
    """Whether the simulator answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer."""
        resp.media = {"status": "ready"}


def create_app(
    *,
    issuer: Issuer,
    client_secret: str,
    tokens: Mapping[str, str],
    behaviours: Behaviours,
    ledger: Ledger,
    metrics: SimulatorMetrics,
    shutdown: Shutdown,
) -> falcon.asgi.App[Request, Response]:
    """Wire the resources; `tokens` holds each external system's bearer token."""
    app = falcon.asgi.App()
    issuing = IssuerResource(issuer, client_secret)
    app.add_route("/issuer/token", issuing, suffix="token")
    app.add_route("/issuer/jwks.json", issuing, suffix="jwks")
    app.add_route("/issuer/.well-known/openid-configuration", issuing, suffix="configuration")
    for system, path in COLLECTIONS.items():
        app.add_route(
            path,
            ExternalSystemResource(
                system, tokens[system], behaviours=behaviours, ledger=ledger, metrics=metrics, shutdown=shutdown
            ),
        )
    controls = BehavioursResource(behaviours)
    app.add_route("/control/behaviours", controls)
    app.add_route("/control/behaviours/{system}", controls, suffix="system")
    app.add_route("/control/ledger", LedgerResource(ledger))
    app.add_route("/health/ready", HealthResource())
    return app
