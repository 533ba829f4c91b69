"""Takes the measurements that the release checks judge.

Units are asked for their /metrics, stores are asked themselves, incidents come from what the engine exported. Everything is asked at once, and each question that gets no answer becomes a failed check of its own name: a release
never goes on because a measurement broke.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.adapters.http.unit_metrics import look
from app.adapters.kafka.administration import ClusterState
from app.adapters.kafka.engine_records import Incident
from app.adapters.postgres.platform_health import PlatformHealth
from app.adapters.redis.health import redis_state
from app.adapters.redis.keys import Keys
from app.adapters.redis.namespace import look as look_at_namespace
from app.application.operations import OperationError
from app.application.release_checks import (
    Check,
    Figures,
    Limits,
    Sample,
    Target,
    Window,
    WindowRule,
    api_latency,
    business_success,
    error_rate,
    kafka_lag,
    kafka_topics,
    outbox_backlog,
    redis_namespace,
    silent_units,
)
from app.contracts.loader import load_redis_keys
from app.entrypoints.admin.wiring import Session

_PERCENT = 100.0
# How far back open incidents are looked for: an older one is the reconciler's business, not a release's.
_INCIDENTS_SINCE = timedelta(hours=24)


class Surroundings(BaseModel):
    """What the inventory says: where instances show their figures, from when on a figure stops a release.

    Attributes:
        observation_seconds: how long the current error rate is observed by the pre-checks.
        kafka_brokers: how many brokers there must be.
        kafka_topics: what the installed releases write and read.
        window: how the monitoring window judges.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: list[Target]
    limits: Limits
    observation_seconds: float
    kafka_brokers: int
    kafka_topics: list[str]
    window: WindowRule


class Baseline(BaseModel):
    """What was measured before the smoke test, kept in the journal for the post-checks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime
    samples: dict[str, list[Sample]]

    @property
    def figures(self) -> Figures:
        """The look as it was."""
        return Figures(self.samples)


async def prechecks(session: Session, given: Surroundings) -> list[Check]:
    """Judge whether the environment is in a state to be released to."""
    limits = given.limits
    first = await look(given.targets)
    stores = asyncio.gather(
        _guarded("database", _database(session, limits)),
        _guarded("kafka", _kafka(session, given)),
        _guarded("camunda", _camunda(session, limits)),
        _guarded("kafka-topics", _kafka_topics(session, given)),
        _guarded("redis", _redis(session, limits)),
        _guarded("redis-namespace", _redis_namespace(session)),
        _guarded("incidents-and-fallout", _incidents_and_fallout(session, limits)),
    )
    await asyncio.sleep(given.observation_seconds)
    second = await look(given.targets)
    *judged, incidents = await stores
    backlog = await _guarded("outbox-backlog", _outbox(session, second, limits))
    checks = [*judged, error_rate(first, second, limits), backlog, incidents]
    silent = silent_units(second)
    # A unit that is down does not stop the release that may be about to mend it; it is named all the same.
    return [*checks, replace(silent, verdict="inconclusive")] if silent else checks


async def baseline(session: Session, given: Surroundings) -> Baseline:
    """Look once, before the smoke test."""
    figures = await look(given.targets)
    async with session.database() as connection:
        moment = await PlatformHealth(connection).now()
    return Baseline(at=moment, samples={name: list(samples) for name, samples in figures.samples.items()})


async def window(given: Surroundings) -> list[Check]:
    """Take look after look until the window is over or has seen enough to fail."""
    monitored = Window(given.window, given.limits, await look(given.targets))
    while not monitored.over and not monitored.failed:
        await asyncio.sleep(given.window.interval_seconds)
        reasons = monitored.take(await look(given.targets))
        verdict = "; ".join(reasons) or "good"
        sys.stderr.write(f"window: sample {monitored.looks} of {given.window.samples}: {verdict}\n")
    return monitored.checks()


async def postchecks(session: Session, given: Surroundings, before: Baseline) -> list[Check]:
    """Judge what the release did, from the baseline on."""
    limits = given.limits
    figures, incidents, locks, business = await asyncio.gather(
        look(given.targets),
        _guarded("camunda-incidents", _new_incidents(session, before.at)),
        _guarded("database-locks", _locks(session, limits)),
        _guarded("business-success-rate", _business(session, limits, before.at)),
    )
    checks = [
        api_latency(before.figures, figures, limits),
        error_rate(before.figures, figures, limits),
        kafka_lag(figures, limits),
        incidents,
        locks,
        business,
    ]
    silent = silent_units(figures)
    return [*checks, silent] if silent else checks


def stored_baseline(evidence: Any) -> Baseline:
    """Read a baseline back from the journal."""
    return TypeAdapter(Baseline).validate_python(evidence)


def storable(before: Baseline) -> dict[str, Any]:
    """The baseline as the journal keeps it: only what the post-checks compare."""
    kept = ("cpq_api_requests_total", "cpq_api_request_seconds_bucket")
    samples = {
        name: [asdict(sample) for sample in samples if sample.name in kept] for name, samples in before.samples.items()
    }
    return {"at": before.at.isoformat(), "samples": samples}


async def _guarded(name: str, check: Awaitable[Check]) -> Check:
    try:
        return await check
    except OperationError as error:
        return Check(name, "failed", f"no answer: {error}", "answers", f"cpq-oms-admin diagnose; {_REMEDIES[name]}")


_REMEDIES = {
    "database": "systemctl status postgresql on the database hosts",
    "kafka": "systemctl status kafka on the Kafka hosts",
    "camunda": "systemctl status zeebe on the Zeebe hosts",
    "kafka-topics": "systemctl status kafka on the Kafka hosts",
    "redis": "systemctl status redis-server on the Redis hosts",
    "redis-namespace": "systemctl status redis-server on the Redis hosts",
    "outbox-backlog": "systemctl status postgresql on the database hosts",
    "incidents-and-fallout": "systemctl status kafka and postgresql on their hosts",
    "camunda-incidents": "systemctl status kafka on the Kafka hosts",
    "database-locks": "systemctl status postgresql on the database hosts",
    "business-success-rate": "systemctl status postgresql on the database hosts",
}


async def _database(session: Session, limits: Limits) -> Check:
    async with session.database() as connection:
        state = await PlatformHealth(connection).database()
    percent = _PERCENT * state.used / state.allowed
    measured = f"{state.used} of {state.allowed} connections used ({percent:.0f} %)"
    limit = f"takes writes, at most {limits.database_connections_percent:g} % of connections used"
    if state.is_standby:
        return Check("database", "failed", "the server is a standby", limit, "point DB_URL at the primary")
    if percent > limits.database_connections_percent:
        return Check("database", "failed", measured, limit, "pg_stat_activity shows who holds the connections")
    return Check("database", "passed", measured, limit)


async def _kafka(session: Session, given: Surroundings) -> Check:
    def ask() -> ClusterState:
        with session.kafka() as kafka:
            return kafka.state()

    state = await asyncio.to_thread(ask)
    allowed = given.limits.kafka_unavailable_partitions
    limit = f"{given.kafka_brokers} brokers, at most {allowed} partitions without leader or replica"
    measured = f"{state.brokers} brokers, {len(state.unavailable)} such partitions"
    if state.brokers < given.kafka_brokers:
        return Check("kafka", "failed", measured, limit, _REMEDIES["kafka"])
    if len(state.unavailable) > allowed:
        named = ", ".join(state.unavailable[:5])
        return Check("kafka", "failed", f"{measured}: {named}", limit, "wait until every replica is in sync again")
    return Check("kafka", "passed", measured, limit)


async def _kafka_topics(session: Session, given: Surroundings) -> Check:
    def ask() -> frozenset[str]:
        with session.kafka() as kafka:
            return kafka.topics()

    return kafka_topics(given.kafka_topics, await asyncio.to_thread(ask))


async def _camunda(session: Session, limits: Limits) -> Check:
    async with session.engine() as engine:
        state = await engine.state()
    limit = f"every broker, at most {limits.camunda_unhealthy_partitions} partitions without healthy leader"
    measured = f"{state.brokers} of {state.cluster_size} brokers, {len(state.unhealthy)} such partitions"
    if state.brokers < state.cluster_size or len(state.unhealthy) > limits.camunda_unhealthy_partitions:
        return Check("camunda", "failed", measured, limit, _REMEDIES["camunda"])
    return Check("camunda", "passed", measured, limit)


async def _redis(session: Session, limits: Limits) -> Check:
    settings = session.settings
    state = await redis_state(settings.redis_url, settings.redis_password.get_secret_value(), settings.tls_ca_file)
    limit = f"at most {limits.redis_memory_percent:g} % of its memory"
    if state.limit_bytes == 0:
        remedy = "set maxmemory: Redis without a limit takes the host's memory"
        return Check("redis", "failed", "no memory limit is set", limit, remedy)
    percent = _PERCENT * state.used_bytes / state.limit_bytes
    measured = f"{percent:.0f} % of its memory, {state.policy}"
    if percent > limits.redis_memory_percent:
        return Check("redis", "failed", measured, limit, "raise maxmemory or look for a key kind that grows")
    return Check("redis", "passed", measured, limit)


async def _redis_namespace(session: Session) -> Check:
    settings, contract = session.settings, load_redis_keys()
    password = settings.redis_password.get_secret_value()
    keys = Keys(contract, settings.app_env)
    found = await look_at_namespace(settings.redis_url, password, settings.tls_ca_file, keys)
    declared = {name: user.keys_of(settings.app_env) for name, user in contract.users.items()}
    return redis_namespace(settings.app_env, declared, found.patterns, found.foreign, found.example)


async def _outbox(session: Session, figures: Figures, limits: Limits) -> Check:
    shown = figures.largest("cpq_outbox_backlog")
    if shown is not None:
        return outbox_backlog(shown, None, limits)
    async with session.database() as connection:
        return outbox_backlog(None, await PlatformHealth(connection).outbox_backlog(), limits)


async def _incidents_and_fallout(session: Session, limits: Limits) -> Check:
    async with session.database() as connection:
        health = PlatformHealth(connection)
        fallout, now = await health.open_fallout(), await health.now()
    incidents = await _open_incidents(session, now - _INCIDENTS_SINCE)
    limit = f"at most {limits.open_incidents_and_fallout} together"
    if fallout is None and incidents is None:
        return Check("incidents-and-fallout", "not installed yet", "no fallout table, no engine topic", limit)
    count = (fallout or 0) + len(incidents or ())
    measured = f"{len(incidents or ())} open incidents, {fallout or 0} open fallout cases"
    if count > limits.open_incidents_and_fallout:
        remedy = "cpq-oms-admin reconcile run lists them; resolve them or wait before releasing over them"
        return Check("incidents-and-fallout", "failed", measured, limit, remedy)
    return Check("incidents-and-fallout", "passed", measured, limit)


async def _new_incidents(session: Session, since: datetime) -> Check:
    incidents = await _open_incidents(session, since)
    limit = "none opened since the release's units started"
    if incidents is None:
        return Check("camunda-incidents", "inconclusive", "the engine's topic does not exist", limit)
    if incidents:
        named = "; ".join(
            f"{incident.element_id} of {incident.process_id}: {incident.message}" for incident in incidents[:3]
        )
        remedy = "the incident's message names the job; its worker's journal has the rest"
        return Check("camunda-incidents", "failed", f"{len(incidents)} opened: {named}", limit, remedy)
    return Check("camunda-incidents", "passed", "0 opened", limit)


async def _open_incidents(session: Session, since: datetime) -> list[Incident] | None:
    return await asyncio.to_thread(session.engine_records().open_incidents, since)


async def _locks(session: Session, limits: Limits) -> Check:
    async with session.database() as connection:
        longer_than = timedelta(seconds=limits.database_lock_wait_seconds)
        waiting, longest = await PlatformHealth(connection).lock_waits(longer_than)
    limit = f"no session waits for a lock longer than {limits.database_lock_wait_seconds:g} s"
    if waiting:
        remedy = "pg_blocking_pids() of the waiting sessions names who holds the lock"
        measured = f"{waiting} sessions wait, the longest for {longest:.1f} s"
        return Check("database-locks", "failed", measured, limit, remedy)
    return Check("database-locks", "passed", "no such session", limit)


async def _business(session: Session, limits: Limits, since: datetime) -> Check:
    async with session.database() as connection:
        completed, fell_out = await PlatformHealth(connection).orders_ended(since)
    return business_success(completed, fell_out, limits)
