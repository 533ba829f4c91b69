"""Settings of cpq-oms-admin: every store it diagnoses, and the schema owner that only migrations and grants use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.settings.reader import Credential
from app.settings.shared import AddressList, AddressValue, DatabaseSettings, DatabaseUrl, ProcessSettings, RedisUrl


class AdminSettings(ProcessSettings, DatabaseSettings):
    """How an operator's command reaches PostgreSQL, Kafka, Redis and the workflow engine.

    `db_url` is the audited cross-tenant role of all commands; `db_owner_url` owns the schema.
    """

    db_owner_url: DatabaseUrl
    db_owner_password: Credential
    kafka_bootstrap_servers: AddressList
    kafka_username: Annotated[str, Field(min_length=1)]
    kafka_password: Credential
    redis_url: RedisUrl
    redis_password: Credential
    camunda_grpc_address: AddressValue
