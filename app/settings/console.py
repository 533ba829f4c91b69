"""Settings of cpq-oms-console."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from annotated_types import Le
from pydantic import Field

from app.settings.declaration import INFRASTRUCTURE, POLICY, SECURITY
from app.settings.reader import Credential
from app.settings.shared import AddressValue, Duration, HttpUrl, KafkaSettings, StandbyReadSettings, UnitSettings


class ConsoleSettings(UnitSettings, StandbyReadSettings, KafkaSettings):
    """Where people look, where machines hand in traces and this host's Alertmanager its alerts, and what the pages are made from.

    `console_tls` is about the first two. On, it needs the credentials console-tls.certificate and console-tls.key, which the unit imports where they are.
    `state_directory` and
    `credentials_directory` are systemd's: traces, alerts and what is known of the engine live in the one, the certificate in the other.
    """

    http_bind: Annotated[AddressValue, INFRASTRUCTURE]
    console_tls: Annotated[Literal["on", "off"], SECURITY]
    console_intake_bind: Annotated[AddressValue, INFRASTRUCTURE]
    console_alerts_bind: Annotated[AddressValue, INFRASTRUCTURE]
    console_prometheus_url: Annotated[HttpUrl, INFRASTRUCTURE]
    console_alertmanager_url: Annotated[HttpUrl, INFRASTRUCTURE]
    console_retention: Annotated[Duration, Le(timedelta(days=90)), POLICY]
    state_directory: Annotated[str, Field(pattern="^/"), INFRASTRUCTURE]
    console_password: Credential
    credentials_directory: Annotated[str, Field(pattern="^/"), INFRASTRUCTURE]
