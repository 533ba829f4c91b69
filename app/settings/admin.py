"""Settings of cpq-oms-admin: every store it diagnoses, and the schema owner that only migrations and grants use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.settings.declaration import FLAG_DEFAULTS, INFRASTRUCTURE, SECURITY, ValueClass
from app.settings.external_systems import ExternalEndpoints
from app.settings.reader import Credential
from app.settings.shared import (
    DatabaseSettings,
    DatabaseUrl,
    EngineSettings,
    HttpUrl,
    KafkaSettings,
    RedisUrl,
)

_SWITCH = {"on": True, "off": False}


def _switches(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    switches = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, _, state = part.partition("=")
        if state not in _SWITCH:
            raise ValueError("expected flag=on or flag=off, separated by commas")
        switches[name] = _SWITCH[state]
    return switches


class AdminSettings(DatabaseSettings, KafkaSettings, EngineSettings, ExternalEndpoints):
    """How an operator's command reaches PostgreSQL, Kafka, Redis, the workflow engine and, to compare, external systems.

    `db_url` is the audited cross-tenant role of all commands; `db_owner_url` owns the schema. `feature_flag_defaults` names
    the flags whose default here is not the contract's; it may be empty. `smoke_tenant` exists for synthetic orders alone, which are made at
    `smoke_api_url` as clients make theirs.
    """

    db_owner_url: Annotated[DatabaseUrl, INFRASTRUCTURE]
    db_owner_password: Credential
    redis_url: Annotated[RedisUrl, INFRASTRUCTURE]
    redis_password: Credential
    smoke_api_url: Annotated[HttpUrl, INFRASTRUCTURE]
    smoke_token_url: Annotated[HttpUrl, SECURITY]
    smoke_tenant: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), SECURITY]
    smoke_client_secret: Credential
    feature_flag_defaults: Annotated[
        Mapping[str, bool],
        BeforeValidator(_switches),
        ValueClass("flag=on or flag=off, separated by commas"),
        FLAG_DEFAULTS,
    ]
