"""Settings of cpq-oms-worker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from annotated_types import Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.settings.declaration import CHANGEABLE, INFRASTRUCTURE, POLICY, ValueClass
from app.settings.external_systems import ExternalEndpoints
from app.settings.shared import (
    ColouredSettings,
    DatabasePoolSettings,
    Duration,
    EngineSettings,
    HttpUrl,
    TracedSettings,
    entries_of,
    pairs_of,
)

_LONGEST_JOB = timedelta(hours=1)
_JOB_TYPE = re.compile(r"[a-z]+(-[a-z]+)*")


def _names(value: Any) -> Any:
    """Read job types; what has not the form of one is named by its place, for it may be a secret."""
    if not isinstance(value, str):
        return value
    names = entries_of(value)
    wrong = [f"entry {place}" for place, name in enumerate(names, 1) if not _JOB_TYPE.fullmatch(name)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: expected a job type")
    return tuple(names)


class TypeOverride(BaseModel):
    """What a process does differently for one job type; None leaves it as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_jobs_active: Annotated[int, Field(ge=1, le=1000)] | None = None
    timeout: Annotated[Duration, Le(_LONGEST_JOB)] | None = None
    retries: Annotated[int, Field(ge=1, le=100)] | None = None
    retry_backoff: Annotated[Duration, Le(_LONGEST_JOB)] | None = None


class WorkerSettings(TracedSettings, ColouredSettings, DatabasePoolSettings, EngineSettings, ExternalEndpoints):
    """Which group this process is, the engine it works for, and the external systems it calls and is called back by.

    `worker_enabled_types` is a comma-separated part of the group's job types, empty for a group that has none.
    `worker_max_jobs_active`, `worker_timeout` and `worker_max_runs` lower what the contract says of each job type (jobs
    taken at once, time for a job, runs of a step with crashed ones) and never raise it. `worker_type_overrides`, such as
    `reserve-inventory.max_jobs_active=8,activate-billing.timeout=PT45S`, replaces both for one type; only the contract's
    limit of jobs taken at once stands, for it protects the external system. `worker_threads` is how many jobs of the
    process are worked on at once, over all its types: tasks of one event loop, not threads. `worker_poll_interval` is
    how often the starter looks without being woken, and the shortest time between two polls that bring no job.
    `worker_request_timeout` is how long the engine holds a poll while there is no job. `external_timeout` is for one
    call to an external system; it lowers what is declared for a system and never raises it.
    """

    callback_url: Annotated[HttpUrl, INFRASTRUCTURE]
    worker_group: Annotated[str, Field(min_length=1), INFRASTRUCTURE]
    worker_enabled_types: Annotated[
        tuple[str, ...], BeforeValidator(_names), ValueClass("names separated by commas"), POLICY
    ]
    worker_max_jobs_active: Annotated[int, Field(ge=1, le=1000), POLICY]
    worker_threads: Annotated[int, Field(ge=1, le=1000), POLICY]
    worker_timeout: Annotated[Duration, Le(_LONGEST_JOB), POLICY]
    worker_type_overrides: Annotated[
        Mapping[str, TypeOverride],
        BeforeValidator(pairs_of(TypeOverride, _JOB_TYPE, "job type")),
        ValueClass("type.field=value, separated by commas"),
        POLICY,
    ] = Field(default_factory=dict)
    worker_poll_interval: Annotated[Duration, Le(timedelta(minutes=1)), POLICY]
    worker_request_timeout: Annotated[Duration, Le(timedelta(minutes=5)), POLICY]
    worker_max_runs: Annotated[int, Field(ge=1, le=100), POLICY]
    external_timeout: Annotated[Duration, Le(timedelta(minutes=5)), CHANGEABLE]
