"""How each job type is served by this process: the contract, lowered by the process's settings, replaced by its overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.contracts.loader import Contracts, JobType
from app.settings.worker import TypeOverride, WorkerSettings

CALLS_PER_RUN = 3
"""A run may ask what a former call did, call, and ask what that one did."""

# What a run needs beside its calls: three short transactions and the settling of its job.
_RUN_MARGIN = timedelta(seconds=6)


@dataclass(frozen=True, slots=True)
class TypeSettings:
    """How one job type is served: jobs taken at once, time for a job, runs of a step, and the pause after the first."""

    max_jobs_active: int
    timeout: timedelta
    retries: int
    retry_backoff: timedelta


def type_settings(settings: WorkerSettings, contracts: Contracts) -> Mapping[str, TypeSettings]:
    """How each enabled job type is served."""
    own = contracts.job_types.of_group(settings.worker_group)
    return {
        name: _served(own[name], settings.worker_type_overrides.get(name, TypeOverride()), settings)
        for name in settings.worker_enabled_types
        if name in own
    }


def _served(job_type: JobType, override: TypeOverride, settings: WorkerSettings) -> TypeSettings:
    return TypeSettings(
        max_jobs_active=min(job_type.max_jobs_active, override.max_jobs_active or settings.worker_max_jobs_active),
        timeout=override.timeout or min(job_type.timeout, settings.worker_timeout),
        retries=override.retries or min(job_type.retries, settings.worker_max_runs),
        retry_backoff=override.retry_backoff or job_type.retry_backoff,
    )


def contract_problems(settings: WorkerSettings, contracts: Contracts) -> list[str]:
    """Say what in the settings disagrees with the contracts, one line each."""
    if settings.worker_group not in contracts.job_types.groups:
        known = ", ".join(sorted(contracts.job_types.groups))
        return [f"WORKER_GROUP: expected one of {known}"]
    return [*_type_problems(settings, contracts), *_limit_problems(settings, contracts)]


def _type_problems(settings: WorkerSettings, contracts: Contracts) -> Iterable[str]:
    own = contracts.job_types.of_group(settings.worker_group)
    for name in settings.worker_enabled_types:
        if name not in own:
            yield f"WORKER_ENABLED_TYPES: {name} is no job type of group {settings.worker_group}"
    if own and not settings.worker_enabled_types:
        yield f"WORKER_ENABLED_TYPES: expected one or more of {', '.join(sorted(own))}"
    for name, override in settings.worker_type_overrides.items():
        if name not in settings.worker_enabled_types:
            yield f"WORKER_TYPE_OVERRIDES: {name} is not among WORKER_ENABLED_TYPES"
        elif name in own and (override.max_jobs_active or 0) > own[name].max_jobs_active:
            yield (
                f"WORKER_TYPE_OVERRIDES: {name}.max_jobs_active: expected at most {own[name].max_jobs_active}, "
                "the contract's limit"
            )


def _limit_problems(settings: WorkerSettings, contracts: Contracts) -> Iterable[str]:
    served = type_settings(settings, contracts)
    if settings.worker_threads < len(served):
        yield f"WORKER_THREADS: expected at least {len(served)}, one for each of WORKER_ENABLED_TYPES"
    for name, how in served.items():
        limit = (how.timeout - _RUN_MARGIN) / CALLS_PER_RUN
        if how.timeout <= _RUN_MARGIN:
            yield f"WORKER_TIMEOUT: {name} has PT{how.timeout.total_seconds():g}S for a job; a run needs more than PT{_RUN_MARGIN.total_seconds():g}S beside its calls"
        elif (system := contracts.job_types.job_types[name].external_system) and min(
            settings.external_timeout, contracts.external_systems[system].timeout
        ) > limit:
            yield (
                f"EXTERNAL_TIMEOUT: expected at most PT{limit.total_seconds():g}S, "
                f"so that {CALLS_PER_RUN} calls fit into a job of type {name}"
            )
