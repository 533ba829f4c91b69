"""Settings of cpq-oms-worker."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.settings.external_systems import ExternalEndpoints
from app.settings.shared import AddressValue, DatabasePoolSettings, Duration, UnitSettings


def _names(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(name.strip() for name in value.split(",") if name.strip())


class WorkerSettings(UnitSettings, DatabasePoolSettings, ExternalEndpoints):
    """Which group this process is, the engine it works for, and the external systems it calls.

    `worker_enabled_types` is a comma-separated part of the group's job types, empty for a group that has none.
    `worker_max_jobs_active` lowers the contract's limit per job type and never raises it. `worker_poll_interval` is how
    often the starter looks without being woken, and the shortest time between two polls that bring no job.
    `worker_request_timeout` is how long the engine holds a poll while there is no job. `worker_max_runs` counts runs of
    a step, crashed ones included. `external_timeout` is for one call to an external system; it lowers what is declared for
    a system and never raises it.
    """

    worker_group: Annotated[str, Field(min_length=1)]
    worker_enabled_types: Annotated[tuple[str, ...], BeforeValidator(_names)]
    worker_max_jobs_active: Annotated[int, Field(ge=1, le=1000)]
    worker_poll_interval: Duration
    worker_request_timeout: Duration
    worker_max_runs: Annotated[int, Field(ge=1, le=100)]
    camunda_grpc_address: AddressValue
    external_timeout: Duration
