"""Settings of the external systems carry the names that the contract gives them."""

from __future__ import annotations

from uuid import UUID

from app.contracts.loader import load_external_systems
from app.domain.external_calls import idempotency_key
from app.domain.values import OrderId, TenantId
from app.settings.external_systems import CallbackSecrets, ExternalEndpoints, ExternalTokens

SYSTEMS = load_external_systems()


def fields(*names: str) -> set[str]:
    return {name.lower().replace("-", "_") for name in names}


def test_every_system_has_its_endpoint_and_credential_and_no_other_has() -> None:
    tokens = fields(*(policy.credential for policy in SYSTEMS.values()))

    assert set(ExternalTokens.model_fields) == tokens
    assert set(ExternalEndpoints.model_fields) - tokens - {"external_environment"} == fields(
        *(policy.endpoint.setting for policy in SYSTEMS.values())
    )
    assert set(CallbackSecrets.model_fields) == fields(
        *(policy.callback.secret for policy in SYSTEMS.values() if policy.callback.secret)
    )


def test_the_key_is_made_of_what_is_declared() -> None:
    key = idempotency_key("ci", TenantId("acme"), OrderId(UUID(int=1)), "reserve-inventory", 2)
    parts = {
        "environment": "ci",
        "tenant": "acme",
        "order": str(UUID(int=1)),
        "step": "reserve-inventory",
        "epoch": "2",
    }

    for policy in SYSTEMS.values():
        assert key == ":".join(parts[part] for part in policy.idempotency_key.made_of)
