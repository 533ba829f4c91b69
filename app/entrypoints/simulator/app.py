"""The simulator's URL map: an issuer, the declared external systems, and the controls of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import falcon.asgi
from falcon.asgi import Request, Response

from app.contracts.loader import ExternalSystemPolicy
from app.entrypoints.simulator.control_resource import BehavioursResource, EnvironmentsResource, LedgerResource
from app.entrypoints.simulator.external_system_resource import (
    EnvironmentResource,
    ExternalSystemResource,
    Surroundings,
)
from app.entrypoints.simulator.issuer import Issuer
from app.entrypoints.simulator.issuer_resource import IssuerResource
from app.runtime.tracing import TracedRequests


class HealthResource:
    """Whether the simulator answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer."""
        resp.media = {"status": "ready"}


def create_app(
    *,
    issuer: Issuer,
    client_secrets: Sequence[str],
    systems: Mapping[str, ExternalSystemPolicy],
    tokens: Mapping[str, Sequence[str]],
    environment: str,
    kind: str,
    around: Surroundings,
) -> falcon.asgi.App[Request, Response]:
    """Wire the resources.

    Args:
        issuer: signs the tokens.
        client_secrets: prove the issuer's clients; two while one is being rotated.
        systems: the declared policies, by system.
        tokens: each system's bearer token; two while one is being rotated.
        environment: the environment that the systems' endpoints belong to.
        kind: what kind of environment that is.
        around: what the systems share.
    """
    app = falcon.asgi.App(middleware=[TracedRequests("/health/", "/issuer/", "/control/")])
    issuing = IssuerResource(issuer, client_secrets)
    app.add_route("/issuer/token", issuing, suffix="token")
    app.add_route("/issuer/jwks.json", issuing, suffix="jwks")
    app.add_route("/issuer/.well-known/openid-configuration", issuing, suffix="configuration")
    environments = {system: EnvironmentResource(environment, kind) for system in systems}
    for system, policy in systems.items():
        resource = ExternalSystemResource(system, policy, tokens[system], around)
        app.add_route(f"/{system}/{policy.endpoint.collection}", resource)
        app.add_route(f"/{system}/.well-known/environment", environments[system])
    controls = BehavioursResource(around.behaviours)
    app.add_route("/control/behaviours", controls)
    app.add_route("/control/behaviours/{system}", controls, suffix="system")
    app.add_route("/control/environment/{system}", EnvironmentsResource(environments))
    app.add_route("/control/ledger", LedgerResource(around.ledger))
    app.add_route("/health/ready", HealthResource())
    return app
