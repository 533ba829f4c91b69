"""Settings of cpq-oms-api."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from app.settings.declaration import INFRASTRUCTURE, POLICY, SECURITY
from app.settings.reader import Credential
from app.settings.shared import AddressList, AddressValue, HttpUrl, RedisUrl, StandbyReadSettings, TracedSettings


class ApiSettings(TracedSettings, StandbyReadSettings):
    """The HTTP server, its stores, and the issuer whose tokens it accepts.

    Kafka and Camunda are only probed for the diagnostics page: the API itself never talks to them. `api_hosts` is how many
    hosts serve the API, `api_workers` how many processes each of them runs.
    """

    http_bind: Annotated[AddressValue, INFRASTRUCTURE]
    api_workers: Annotated[int, Field(ge=1, le=64), POLICY]
    api_hosts: Annotated[int, Field(ge=1, le=100), POLICY]
    redis_url: Annotated[RedisUrl, INFRASTRUCTURE]
    redis_password: Credential
    auth_issuer: Annotated[HttpUrl, SECURITY]
    auth_audience: Annotated[str, Field(min_length=1), SECURITY]
    auth_jwks_url: Annotated[HttpUrl, SECURITY]
    kafka_bootstrap_servers: Annotated[AddressList, INFRASTRUCTURE]
    camunda_grpc_address: Annotated[AddressList, INFRASTRUCTURE]

    @property
    def processes(self) -> int:
        """All processes of the API, which share what is limited without a store to count in."""
        return self.api_hosts * self.api_workers

    @model_validator(mode="after")
    def _listeners_differ(self) -> Self:
        """Requests are told apart by the port they came in by."""
        if self.http_bind.port == self.metrics_bind.port:
            raise ValueError("HTTP_BIND and METRICS_BIND must have different ports")
        return self
