"""Puts a worker together: the only place of this deployable that knows which technology is behind which port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import httpx
import psycopg
from prometheus_client import CollectorRegistry
from psycopg_pool import PoolTimeout

from app.adapters.http.external_system import HttpExternalSystem, new_client
from app.adapters.http.proven_endpoint import ProvenEndpoint
from app.adapters.postgres.callback_results import PostgresCallbackVerdicts
from app.adapters.postgres.external_guard import PostgresExternalCallGuard
from app.adapters.postgres.pool import Pool, make_pool, unit_parameters
from app.adapters.postgres.reaction_runs import PostgresReactionQueue, reaction_unit_factory
from app.adapters.postgres.role_epochs import PostgresEpochStore
from app.adapters.postgres.runtime_settings import followed
from app.adapters.postgres.schema import ensure_schema
from app.adapters.postgres.start_queue import PostgresStartQueue, WorkflowRequests
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.adapters.postgres.worker_registrations import PostgresWorkerRegistrations
from app.adapters.zeebe.channel import gateway_identity, open_channel
from app.adapters.zeebe.client import ZeebeWorkflowEngine
from app.adapters.zeebe.worker import ServedJobType, ZeebeJobWorker
from app.application.called_back_system import CalledBackExternalSystem
from app.application.fulfillment import Fulfillment
from app.application.guarded_system import GuardedExternalSystem
from app.application.ports import ExternalSystem, StoreUnavailable, WorkerRegistration
from app.application.publication import Publication
from app.application.reaction_runs import ReactionPass, ReactionPolicy, ReactionRunner
from app.application.workflow_start import StartPass, WorkflowStarter
from app.contracts.loader import Contracts, ExternalSystemPolicy
from app.entrypoints.worker.fallout_watch import watch_fallout
from app.entrypoints.worker.job_handler import VARIABLE_NAMES, JobHandler
from app.entrypoints.worker.job_loop import JobLoop
from app.entrypoints.worker.pass_loop import PassLoop
from app.entrypoints.worker.presence import Presence
from app.entrypoints.worker.registry import JOBS
from app.entrypoints.worker.type_settings import call_timeouts, type_settings
from app.messaging.colours import Colour, HeldEpoch, RoleProcess, Standing
from app.messaging.retry import Backoff, Unavailable
from app.runtime.clock import Clock, SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.load import LoadMonitor
from app.runtime.logging import set_level
from app.runtime.metrics import ExternalGuardMetrics, OrderMetrics, RoleMetrics, WorkerMetrics
from app.runtime.notify import Notifier
from app.runtime.runtime_settings import RuntimeSettings
from app.runtime.shutdown import Shutdown
from app.settings.reader import runtime_settings
from app.settings.worker import WorkerSettings

DRAIN_TIMEOUT = timedelta(seconds=25)
"""For jobs that run when a stop is requested; hand-backs and the way out fit beside it into the unit's TimeoutStopSec."""

# The engine looks for jobs over their time every 30 s.
_LAPSE = timedelta(seconds=30)


REACTIONS = "reactions"
"""The group that carries out what events asked to be done outside."""


class Loop(Protocol):
    """What a worker process does, whatever its group."""

    def is_making_progress(self) -> bool:
        """Whether the work itself moves: the registration's heartbeat depends on it."""
        ...

    async def run(self) -> None:
        """Work until a stop is requested, and drain."""
        ...


@asynccontextmanager
async def started_worker(
    settings: WorkerSettings,
    contracts: Contracts,
    *,
    release_id: str,
    registry: CollectorRegistry,
    notifier: Notifier,
    shutdown: Shutdown,
    load: LoadMonitor,
) -> AsyncIterator[Loop]:
    """Connect, check, register, and hand out the group's loop; on leaving, give everything back.

    The engine and the external systems may be away: that is waited out after the start.

    Raises:
        StoreUnavailable: the database does not answer.
        SchemaTooOldError: a migration is missing.
    """
    process = RoleProcess(
        settings.app_instance_id, f"worker@{settings.worker_group}", Colour(settings.app_colour), release_id
    )
    parameters = unit_parameters(settings, release_id, process.role)
    clock = SystemClock()
    own = contracts.job_types.of_group(settings.worker_group)
    registration = WorkerRegistration(
        instance_id=settings.app_instance_id,
        worker_group=settings.worker_group,
        job_types=sorted(settings.worker_enabled_types),
        variables_schema_versions=contracts.job_types.variables_schema_versions,
        release_id=release_id,
        started_at=clock.now(),
    )
    held = HeldEpoch()
    pool = make_pool(
        parameters, max_size=settings.db_pool_max, wait=settings.db_statement_timeout, held=lambda: held.epoch
    )
    load.watch_pool(pool.get_stats)
    runtime = runtime_settings(settings)
    runtime.on_change("LOG_LEVEL", set_level)
    metrics, guards = WorkerMetrics(registry), ExternalGuardMetrics(registry)
    standing = Standing(
        PostgresEpochStore(pool), process, held, clock, RoleMetrics(registry, process.role, process.colour)
    )
    common = _Common(settings, runtime, contracts, pool, standing, clock, metrics, guards, notifier, shutdown)
    async with pool, followed(parameters, "worker", runtime), AsyncExitStack() as stack:
        try:
            async with pool.connection() as connection:
                await ensure_schema(connection)
            await stack.enter_async_context(standing)
        except (psycopg.OperationalError, PoolTimeout, Unavailable) as error:
            raise StoreUnavailable(f"database: {error}") from error
        if own:
            loop: AbstractAsyncContextManager[Loop] = _job_loop(common, OrderMetrics(registry))
        elif settings.worker_group == REACTIONS:
            loop = _reaction_loop(common)
        else:
            loop = _start_loop(common, parameters)
        async with (
            loop as running,
            Presence(PostgresWorkerRegistrations(pool), registration, running.is_making_progress),
        ):
            yield running


@dataclass(frozen=True, slots=True)
class _Common:
    """What every group's loop is made of."""

    settings: WorkerSettings
    runtime: RuntimeSettings
    contracts: Contracts
    pool: Pool
    standing: Standing
    clock: Clock
    metrics: WorkerMetrics
    guards: ExternalGuardMetrics
    notifier: Notifier
    shutdown: Shutdown


def _gateway_channel(settings: WorkerSettings) -> Any:
    """A channel to whichever gateway answers."""
    identity = gateway_identity(
        settings.tls_ca_file,
        settings.camunda_certificate.get_secret_value(),
        settings.camunda_key.get_secret_value(),
    )
    return open_channel(settings.camunda_addresses, identity)


@asynccontextmanager
async def _start_loop(common: _Common, parameters: Mapping[str, Any]) -> AsyncIterator[PassLoop[StartPass]]:
    """The loop of the group that serves no job type: it starts processes."""
    requests = WorkflowRequests(parameters)

    def engine_answered(result: StartPass) -> None:
        if result.engine_problem or result.attempted:
            common.metrics.engine(up=result.engine_problem is None)

    async with _gateway_channel(common.settings) as channel:
        starter = WorkflowStarter(
            queue=PostgresStartQueue(
                common.pool, {name: flag.default for name, flag in common.contracts.flags.items()}
            ),
            unit_of_work=unit_of_work_factory(common.pool),
            engine=ZeebeWorkflowEngine(channel),
            clock=common.clock,
            observer=common.metrics,
            concurrency=common.settings.db_pool_max,
        )
        background = [
            asyncio.create_task(requests.listen()),
            asyncio.create_task(
                watch_fallout(
                    PostgresWorkerRegistrations(common.pool).open_fallout,
                    common.metrics,
                    common.contracts.job_types.job_types,
                )
            ),
        ]
        try:
            yield PassLoop(
                starter.run_pass,
                doing="starting processes",
                wake=requests.wake,
                observe=engine_answered,
                standing=common.standing,
                poll_interval=common.settings.worker_poll_interval,
                shutdown=common.shutdown,
                notifier=common.notifier,
                clock=common.clock,
            )
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)


def _external_systems(common: _Common, client: httpx.AsyncClient) -> Mapping[str, ExternalSystem]:
    """Every declared external system, by name, behind the guard that all processes share."""
    settings = common.settings
    timeouts = call_timeouts(settings, common.contracts, common.runtime)

    def system(name: str, policy: ExternalSystemPolicy) -> ExternalSystem:
        called = HttpExternalSystem(
            client,
            name,
            policy,
            base_url=settings.url_of(name),
            token=settings.token_of(name),
            callback_url=settings.callback_url,
            timeout=timeouts[name],
        )
        proven = ProvenEndpoint(
            client,
            name,
            called,
            base_url=settings.url_of(name),
            expected=settings.external_environment,
            clock=common.clock,
        )
        guard = PostgresExternalCallGuard(common.pool, name, policy)
        guarded = GuardedExternalSystem(
            name, proven, guard, retry=policy.retry, clock=common.clock, observer=common.guards
        )
        if policy.callback.url == "none":
            return guarded
        return CalledBackExternalSystem(name, guarded, PostgresCallbackVerdicts(common.pool))

    return {name: system(name, policy) for name, policy in common.contracts.external_systems.items()}


@asynccontextmanager
async def _reaction_loop(common: _Common) -> AsyncIterator[PassLoop[ReactionPass]]:
    """The loop of the group that carries out reactions."""
    settings = common.settings
    policies = {}
    for group, declared in common.contracts.consumer_groups.items():
        if declared.reaction is not None:
            retry = common.contracts.external_systems[declared.reaction.external_system].retry
            policies[group] = ReactionPolicy(
                min(declared.reaction.max_runs, settings.worker_max_runs),
                Backoff(retry.shortest_pause.total_seconds(), retry.longest_pause.total_seconds()),
                retry.give_up_after,
            )
    async with new_client() as client:
        runner = ReactionRunner(
            queue=PostgresReactionQueue(common.pool),
            unit_of_work=reaction_unit_factory(common.pool),
            systems=_external_systems(common, client),
            policies=policies,
            environment=settings.app_env,
            clock=common.clock,
            ids=UuidV7Ids(),
            calls=common.metrics,
            concurrency=settings.db_pool_max,
        )
        yield PassLoop(
            runner.run_pass,
            doing="carrying out reactions",
            standing=common.standing,
            poll_interval=settings.worker_poll_interval,
            shutdown=common.shutdown,
            notifier=common.notifier,
            clock=common.clock,
        )


@asynccontextmanager
async def _job_loop(common: _Common, orders: OrderMetrics) -> AsyncIterator[JobLoop]:
    """The loop of a group that serves job types."""
    settings = common.settings
    served = type_settings(settings, common.contracts)
    ids = UuidV7Ids()
    async with _gateway_channel(settings) as channel, new_client() as client:
        fulfillment = Fulfillment(
            unit_of_work=unit_of_work_factory(common.pool),
            systems=_external_systems(common, client),
            instance_id=settings.app_instance_id,
            environment=settings.app_env,
            max_runs={name: how.retries for name, how in served.items()},
            patience={name: policy.retry.give_up_after for name, policy in common.contracts.external_systems.items()},
            clock=common.clock,
            ids=ids,
            publication=Publication(common.contracts.topics, ids),
            orders=orders,
            calls=common.metrics,
        )
        worker = ZeebeJobWorker(
            channel,
            name=settings.app_instance_id,
            job_types=[
                ServedJobType(
                    name=name,
                    handle=JobHandler(
                        JOBS[name],
                        fulfillment,
                        retry_backoff=how.retry_backoff,
                        longest_pause=how.longest_pause,
                        retries=how.retries,
                    ),
                    timeout=how.timeout,
                    max_active=how.max_jobs_active,
                )
                for name, how in served.items()
            ],
            left_behind=await PostgresWorkerRegistrations(common.pool).jobs_left_behind(
                settings.app_instance_id, max((how.timeout for how in served.values()), default=timedelta()) + _LAPSE
            ),
            concurrency=settings.worker_threads,
            variables=VARIABLE_NAMES,
            request_timeout=settings.worker_request_timeout,
            poll_interval=settings.worker_poll_interval,
            drain_timeout=DRAIN_TIMEOUT,
            clock=common.clock,
            observer=common.metrics,
        )
        yield JobLoop(worker, common.standing, common.shutdown, common.notifier)
