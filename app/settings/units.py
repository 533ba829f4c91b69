"""The settings of every deployable, for what looks at all of them: the operators' commands and the documentation."""

from __future__ import annotations

from collections.abc import Mapping

from app.settings.admin import AdminSettings
from app.settings.api import ApiSettings
from app.settings.callback import CallbackSettings
from app.settings.console import ConsoleSettings
from app.settings.consumer import ConsumerSettings
from app.settings.relay import RelaySettings
from app.settings.shared import ProcessSettings, UnitSettings
from app.settings.worker import WorkerSettings

RUNNING: Mapping[str, type[UnitSettings]] = {
    "api": ApiSettings,
    "worker": WorkerSettings,
    "relay": RelaySettings,
    "consumer": ConsumerSettings,
    "callback": CallbackSettings,
    "console": ConsoleSettings,
}
"""Units that keep running and so follow changes."""

UNITS: Mapping[str, type[ProcessSettings]] = {**RUNNING, "admin": AdminSettings}
"""All deployables of a production bundle."""
