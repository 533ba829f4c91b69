"""Settings of cpq-oms-callback."""

from __future__ import annotations

from typing import Annotated

from app.settings.declaration import INFRASTRUCTURE
from app.settings.external_systems import CallbackSecrets
from app.settings.shared import AddressValue, DatabasePoolSettings, TracedSettings


class CallbackSettings(TracedSettings, DatabasePoolSettings, CallbackSecrets):
    """Where callbacks arrive, and the secrets that their signing keys are made from."""

    http_bind: Annotated[AddressValue, INFRASTRUCTURE]
