"""Settings of cpq-oms-simulator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from annotated_types import Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.settings.declaration import INFRASTRUCTURE, POLICY, SECURITY, ValueClass
from app.settings.external_systems import CallbackSecrets, ExternalEnvironment, ExternalTokens
from app.settings.reader import Credential
from app.settings.shared import AddressValue, Duration, HttpUrl, TracedSettings, pairs_of

_SYSTEM = re.compile(r"[a-z][a-z-]{1,40}")


class StartingBehaviour(BaseModel):
    """How one system behaves from the simulator's start; None is as a healthy one does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: Annotated[Duration, Le(timedelta(minutes=1))] | None = None
    error_share: Annotated[float, Field(ge=0, le=1)] | None = None


class SimulatorSettings(TracedSettings, ExternalEnvironment, ExternalTokens, CallbackSecrets):
    """Where the simulator serves, whose tokens it issues, and the secrets its callers must know.

    `external_environment` is the kind that the simulated endpoints prove to be. `state_directory` is systemd's STATE_DIRECTORY: the issuer's key and the ledger live there.
    `simulator_behaviours`, such as `inventory.latency=PT0.08S,inventory.error_share=0.005`, is how systems behave until /control says
    otherwise: how long each call takes, and which share of them is refused with 503 and has no effect.
    """

    http_bind: Annotated[AddressValue, INFRASTRUCTURE]
    issuer_url: Annotated[HttpUrl, SECURITY]
    auth_audience: Annotated[str, Field(min_length=1), SECURITY]
    state_directory: Annotated[str, Field(pattern="^/"), INFRASTRUCTURE]
    issuer_client_secret: Credential
    simulator_behaviours: Annotated[
        Mapping[str, StartingBehaviour],
        BeforeValidator(pairs_of(StartingBehaviour, _SYSTEM, "system")),
        ValueClass("system.field=value, separated by commas"),
        POLICY,
    ]
