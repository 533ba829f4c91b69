"""Where the external systems of an environment are and what proves us to them, and them to us.

The names follow from app/contracts/external_systems.yml; a test holds them to it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from app.settings.declaration import INFRASTRUCTURE, SECURITY
from app.settings.reader import Credential
from app.settings.shared import HttpUrl

EnvironmentKind = Literal["production", "non-production"]


class ExternalEnvironment(BaseModel):
    """`external_environment` is the kind of environment that every endpoint must prove to be, and we to them."""

    model_config = ConfigDict(frozen=True)

    external_environment: Annotated[EnvironmentKind, SECURITY]


class ExternalTokens(BaseModel):
    """The bearer token of each system."""

    model_config = ConfigDict(frozen=True)

    crm_token: Credential
    billing_token: Credential
    payment_token: Credential
    provisioning_token: Credential
    inventory_token: Credential
    notification_token: Credential
    document_generation_token: Credential
    partner_token: Credential

    def token_of(self, system: str) -> str:
        """The token of a declared system."""
        return self.tokens_of(system)[0]

    def tokens_of(self, system: str) -> tuple[str, ...]:
        """The token of a declared system and, while it is being rotated, the other one."""
        token: Credential = getattr(self, f"{system.replace('-', '_')}_token")
        return token.accepted


class ExternalEndpoints(ExternalEnvironment, ExternalTokens):
    """The base URL of each system, for what asks them."""

    crm_url: Annotated[HttpUrl, INFRASTRUCTURE]
    billing_url: Annotated[HttpUrl, INFRASTRUCTURE]
    payment_url: Annotated[HttpUrl, INFRASTRUCTURE]
    provisioning_url: Annotated[HttpUrl, INFRASTRUCTURE]
    inventory_url: Annotated[HttpUrl, INFRASTRUCTURE]
    notification_url: Annotated[HttpUrl, INFRASTRUCTURE]
    document_generation_url: Annotated[HttpUrl, INFRASTRUCTURE]
    partner_url: Annotated[HttpUrl, INFRASTRUCTURE]

    def url_of(self, system: str) -> str:
        """The base URL of a declared system."""
        url: str = getattr(self, f"{system.replace('-', '_')}_url")
        return url


class CallbackSecrets(BaseModel):
    """The secret that the signing keys of a system's callbacks are made from."""

    model_config = ConfigDict(frozen=True)

    payment_callback_secret: Credential
    provisioning_callback_secret: Credential
    document_generation_callback_secret: Credential
    partner_callback_secret: Credential

    def secrets_of(self, system: str) -> tuple[str, ...]:
        """The secret of a declared system that calls back and, while it is being rotated, the former one."""
        secret: Credential = getattr(self, f"{system.replace('-', '_')}_callback_secret")
        return secret.accepted
