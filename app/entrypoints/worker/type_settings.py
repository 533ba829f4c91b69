"""How each job type is served by this process: the contract, lowered by the process's settings, replaced by its overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pydantic_core import to_jsonable_python

from app.contracts.loader import Contracts, JobType
from app.runtime.runtime_settings import RuntimeSettings
from app.settings.worker import TypeOverride, WorkerSettings

CALLS_PER_RUN = 3
"""A run may ask what a former call did, call, and ask what that one did."""

_LONGEST_PAUSE = timedelta(seconds=20)
"""Of a job type that calls no external system; the others' is the system's."""

# What a run needs beside its calls: three short transactions and the settling of its job.
_RUN_MARGIN = timedelta(seconds=6)


@dataclass(frozen=True, slots=True)
class TypeSettings:
    """How one job type is served.

    Attributes:
        max_jobs_active: jobs taken at once.
        timeout: time for a job.
        retries: runs of a step.
        retry_backoff: the pause after the first run that failed; it grows with each further one,
        longest_pause: up to this.
    """

    max_jobs_active: int
    timeout: timedelta
    retries: int
    retry_backoff: timedelta
    longest_pause: timedelta


def type_settings(settings: WorkerSettings, contracts: Contracts) -> Mapping[str, TypeSettings]:
    """How each enabled job type is served."""
    own = contracts.job_types.of_group(settings.worker_group)
    return {
        name: _served(
            own[name],
            settings.worker_type_overrides.get(name, TypeOverride()),
            settings,
            _longest_pause(own[name], contracts),
        )
        for name in settings.worker_enabled_types
        if name in own
    }


def _longest_pause(job_type: JobType, contracts: Contracts) -> timedelta:
    if job_type.external_system is None:
        return _LONGEST_PAUSE
    return contracts.external_systems[job_type.external_system].retry.longest_pause


def call_timeouts(
    settings: WorkerSettings, contracts: Contracts, runtime: RuntimeSettings
) -> Mapping[str, Callable[[], timedelta]]:
    """What to ask, before each call or query, for the longest time that it may take, by external system.

    The declared time, lowered by EXTERNAL_TIMEOUT as it is now, and never more than the jobs of this process leave: what an
    operator sets for all of them at run time knows nothing of the overrides that one of them was started with.
    """
    longest: dict[str, timedelta] = {name: policy.timeout for name, policy in contracts.external_systems.items()}
    for name, how in type_settings(settings, contracts).items():
        system = contracts.job_types.job_types[name].external_system
        if system is not None:
            longest[system] = min(longest[system], _longest_call(how))

    def lowered(most: timedelta) -> Callable[[], timedelta]:
        return lambda: min(most, runtime.duration("EXTERNAL_TIMEOUT"))

    return {system: lowered(most) for system, most in longest.items()}


def _longest_call(how: TypeSettings) -> timedelta:
    return (how.timeout - _RUN_MARGIN) / CALLS_PER_RUN


def _served(
    job_type: JobType, override: TypeOverride, settings: WorkerSettings, longest_pause: timedelta
) -> TypeSettings:
    return TypeSettings(
        max_jobs_active=min(job_type.max_jobs_active, override.max_jobs_active or settings.worker_max_jobs_active),
        timeout=override.timeout or min(job_type.timeout, settings.worker_timeout),
        retries=override.retries or min(job_type.retries, settings.worker_max_runs),
        retry_backoff=override.retry_backoff or job_type.retry_backoff,
        longest_pause=longest_pause,
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
        elif name in own and override.retry_backoff is not None:
            yield from _pause_problems(name, own[name], override.retry_backoff, contracts)


def _pause_problems(name: str, job_type: JobType, pause: timedelta, contracts: Contracts) -> Iterable[str]:
    """An override is held to what the contract file itself is held to."""
    if job_type.external_system is None:
        return
    retry = contracts.external_systems[job_type.external_system].retry
    if not retry.shortest_pause <= pause <= retry.longest_pause:
        yield (
            f"WORKER_TYPE_OVERRIDES: {name}.retry_backoff: expected from {to_jsonable_python(retry.shortest_pause)} to "
            f"{to_jsonable_python(retry.longest_pause)}, as declared for {job_type.external_system}"
        )


def _limit_problems(settings: WorkerSettings, contracts: Contracts) -> Iterable[str]:
    served = type_settings(settings, contracts)
    if settings.worker_threads < len(served):
        yield f"WORKER_THREADS: expected at least {len(served)}, one for each of WORKER_ENABLED_TYPES"
    for name, how in served.items():
        limit = _longest_call(how)
        if how.timeout <= _RUN_MARGIN:
            yield f"WORKER_TIMEOUT: {name} has PT{how.timeout.total_seconds():g}S for a job; a run needs more than PT{_RUN_MARGIN.total_seconds():g}S beside its calls"
        elif (system := contracts.job_types.job_types[name].external_system) and min(
            settings.external_timeout, contracts.external_systems[system].timeout
        ) > limit:
            yield (
                f"EXTERNAL_TIMEOUT: expected at most PT{limit.total_seconds():g}S, "
                f"so that {CALLS_PER_RUN} calls fit into a job of type {name}"
            )
