"""Settings of cpq-oms-simulator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.settings.declaration import INFRASTRUCTURE, SECURITY
from app.settings.external_systems import CallbackSecrets, ExternalEnvironment, ExternalTokens
from app.settings.reader import Credential
from app.settings.shared import AddressValue, HttpUrl, UnitSettings


class SimulatorSettings(UnitSettings, ExternalEnvironment, ExternalTokens, CallbackSecrets):
    """Where the simulator serves, whose tokens it issues, and the secrets its callers must know.

    `external_environment` is the kind that the simulated endpoints prove to be. `state_directory` is systemd's STATE_DIRECTORY: the issuer's key and the ledger live there.
    """

    http_bind: Annotated[AddressValue, INFRASTRUCTURE]
    issuer_url: Annotated[HttpUrl, SECURITY]
    auth_audience: Annotated[str, Field(min_length=1), SECURITY]
    state_directory: Annotated[str, Field(pattern="^/"), INFRASTRUCTURE]
    issuer_client_secret: Credential
