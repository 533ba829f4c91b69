"""The contract files as typed values: read by units, release steps and tests alike, so that a name is written down once.

A file that is malformed, has an unknown or missing field, or repeats a key is refused as a whole; every problem of
every file read is reported at once, each with its file and field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.contracts.topic_policy import topic_problems

DIRECTORY = Path(__file__).parent

_MILLISECOND = timedelta(milliseconds=1)


class ContractError(Exception):
    """One or more contract files are wrong; `problems` has a line per problem, `file: field: what is wrong`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def _iso_duration(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("P"):
        raise ValueError("must be an ISO 8601 duration such as PT30S")
    return value


Duration = Annotated[timedelta, BeforeValidator(_iso_duration), Field(gt=timedelta(0))]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Port = Annotated[int, Field(ge=1024, le=65535)]
Text = Annotated[str, Field(min_length=1)]


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Instance(_Contract):
    """One instance of a templated unit."""

    metrics_port: Port


class Unit(_Contract):
    """A deployable: what it is built as, runs as, listens on and may authenticate as."""

    artifact: Name
    entrypoint: Annotated[str, Field(pattern=r"^app\.entrypoints\.[a-z_]+$")]
    service: Annotated[str, Field(pattern=r"^cpq-oms-[a-z]+@?\.service$")]
    http_port: Port | None = None
    metrics_port: Port | None = None
    database_role: Identifier | None = None
    kafka_user: Name | None = None
    redis_user: Name | None = None
    coloured: bool = False
    credentials: tuple[Name, ...] = ()
    instances: Mapping[Name, Instance] = Field(default_factory=dict)


class _UnitsFile(_Contract):
    units: Mapping[Name, Unit]


class RotationStep(_Contract):
    """What a secret's value becomes in one step of its rotation, and who takes it."""

    value: Annotated[tuple[Literal["former", "new"], ...], Field(min_length=1, max_length=2)]
    apply: Literal["servers", "clients"]


class SecretKind(_Contract):
    """How secrets of a kind change, who asks for them, and where it is tried that a former one is dead."""

    servers: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    steps: tuple[RotationStep, ...]
    proof: Literal["none", "postgresql", "redis", "kafka", "external_token", "client_secret", "callback_secret"]
    given: bool = False
    why_not: Text | None = None


class Secret(_Contract):
    """One secret of an environment: whose it is, and the units (with the credential's file) and services that hold it."""

    kind: Identifier
    account: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    units: Mapping[Name, Name] = Field(default_factory=dict)
    services: tuple[Identifier, ...] = ()


class Secrets(_Contract):
    """All secrets and their kinds."""

    kinds: Mapping[Identifier, SecretKind]
    secrets: Mapping[Identifier, Secret]


class JobType(_Contract):
    """How jobs of one type are handed out and retried by the workflow engine."""

    group: Name
    external_system: Name | None = None
    timeout: Duration
    retries: Annotated[int, Field(ge=1)]
    retry_backoff: Duration
    max_jobs_active: Annotated[int, Field(ge=1)]


class JobGroup(_Contract):
    """A group of workers; what it does is said by the job types that name it."""


class JobTypes(_Contract):
    """All job types, the worker groups that serve them, and the versions of process variables that workers understand."""

    variables_schema_versions: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    job_types: Mapping[Name, JobType]
    groups: Mapping[Name, JobGroup]

    def of_group(self, group: str) -> Mapping[str, JobType]:
        """Return the job types that workers of `group` serve; none for the starter."""
        return {name: job_type for name, job_type in self.job_types.items() if job_type.group == group}


ProcessId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*-v[1-9][0-9]*$")]
RouteCondition = Literal["tenant", "order-type", "product-line", "catalog-version", "flag"]


class ProcessVersion(_Contract):
    """One version of a business process: its BPMN, the job types it emits, and what a worker must know to meet it."""

    file: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*\.bpmn$")]
    start_message: Text
    job_types: Annotated[tuple[Name, ...], Field(min_length=1)]
    variables_schema: Annotated[str, Field(pattern=r"^[a-z-]+\.v[0-9]+\.schema\.json$")]
    variables_schema_version: Annotated[int, Field(ge=1)]
    oldest_compatible_worker: Text


class BusinessProcess(_Contract):
    """What a route of a business process may ask for, and the version for cases that no route matches."""

    by: tuple[RouteCondition, ...]
    default: ProcessId | None = None


class Processes(_Contract):
    """All process versions and how they are routed to."""

    routing: Mapping[Name, BusinessProcess]
    route_flags: tuple[Name, ...]
    processes: Mapping[ProcessId, ProcessVersion]


def business_process(process_id: str) -> str:
    """The business process of a process id: the id without its version."""
    return process_id.rpartition("-v")[0]


class AlertThresholds(_Contract):
    """From when on a group's delay, or the number of dead letters of one hour, is an alarm."""

    consumer_lag_records: Annotated[int, Field(ge=1)] | None = None
    consumer_lag_age: Duration | None = None
    dead_letters: Annotated[int, Field(ge=1)] | None = None


class Topic(_Contract):
    """One Kafka topic: who owns, writes and reads it, and in what shape it is created.

    `kind`: facts of ours, events a consumer could not handle, or records of the workflow engine; app.contracts.topic_policy
    says what each must look like. `replication` and `min_insync` are for a whole cluster: an environment with fewer
    brokers gets what its brokers can keep. `transactional`: its producers write in transactions, under identifiers of
    their own choice. `dead_letter_payload`: whether an event that a group gives up on travels with its dead letter, or
    only where it is to be found.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$")]
    kind: Literal["events", "dead-letters", "engine-records"]
    owner: Name
    purpose: Text
    schema_file: str | None = Field(default=None, alias="schema", pattern=r"^[a-z_]+\.v[0-9]+\.schema\.json$")
    partition_key: Text | None = None
    partitions: Annotated[int, Field(ge=1)]
    replication: Annotated[int, Field(ge=1)]
    min_insync: Annotated[int, Field(ge=1)]
    retention_ms: Annotated[int, Field(ge=1)]
    cleanup_policy: Literal["delete", "compact"]
    compatibility: Literal["backward", "none"]
    producers: tuple[Name, ...]
    transactional: bool = False
    consumer_groups: tuple[Name, ...]
    dead_letter_payload: Literal["inline", "reference"] | None = None
    alert_thresholds: AlertThresholds | None = None

    def replicas(self, brokers: int) -> int:
        """Copies of each partition in a cluster of so many brokers."""
        return min(self.replication, brokers)

    def settings(self, brokers: int) -> dict[str, str]:
        """Kafka's settings of the topic in a cluster of so many brokers; every other setting is the broker's default.

        One broker of a smaller cluster may be lost as well: one replica fewer than all must be enough for a write.
        """
        return {
            "retention.ms": str(self.retention_ms),
            "cleanup.policy": self.cleanup_policy,
            "min.insync.replicas": str(max(1, min(self.min_insync, self.replicas(brokers) - 1))),
        }


class Reaction(_Contract):
    """Which events of a group make it ask an external system for what, and how often that is begun.

    The pauses in between are the external system's own.
    """

    kind: Name
    external_system: Name
    event_types: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]*$")], ...], Field(min_length=1)]
    max_runs: Annotated[int, Field(ge=1)]


class ConsumerGroup(_Contract):
    """What a consumer group is for, how it retries an event that fails, and when it stops instead of going on."""

    owner: Name
    purpose: Text
    max_attempts: Annotated[int, Field(ge=1)]
    retry_backoff: Duration
    max_retry_backoff: Duration
    dead_letter_limit: Annotated[int, Field(ge=1)]
    dead_letter_window: Duration
    reaction: Reaction | None = None


class _ConsumerGroupsFile(_Contract):
    groups: Mapping[Name, ConsumerGroup]


class RedisKey(_Contract):
    """One kind of key: environment and tenant come first, so that no two of either ever share one.

    `when_full`: a key beyond the limit is not written, or its holders share one.
    """

    pattern: Annotated[str, Field(pattern=r"^\{env\}:\{tenant\}:")]
    value_version: Annotated[int, Field(ge=1)]
    ttl: Duration
    max_keys_per_tenant: Annotated[int, Field(ge=1)]
    when_full: Literal["not-written", "shared"]
    without_redis: Text

    @property
    def ttl_ms(self) -> int:
        """Time to live in milliseconds, as Redis takes it."""
        return self.ttl // _MILLISECOND


class RedisUser(_Contract):
    """What one Redis user may touch: it may read anything, and writes keys of its own environment alone."""

    keys: tuple[Annotated[str, Field(pattern=r"^(%R~|\{env\}:)")], ...]
    commands: tuple[Annotated[str, Field(pattern=r"^[+-]")], ...]

    def keys_of(self, environment: str) -> tuple[str, ...]:
        """The key patterns in one environment, as the server shows them."""
        filled = (key.replace("{env}", environment) for key in self.keys)
        return tuple(key if key.startswith("%") else f"~{key}" for key in filled)


class RedisKeys(_Contract):
    """Every key the platform writes to Redis and who may."""

    keys: Mapping[Identifier, RedisKey]
    users: Mapping[Name, RedisUser]


class RequestLimit(_Contract):
    """How many requests one client may make: `requests` in each `per`, after a burst of `burst`."""

    requests: Annotated[int, Field(ge=1)]
    per: Duration
    burst: Annotated[int, Field(ge=1)]
    without_redis: Literal["open", "closed"]

    @property
    def interval(self) -> float:
        """Seconds between two requests of a client that makes them evenly."""
        return self.per.total_seconds() / self.requests


class _RateLimitsFile(_Contract):
    rate_limits: Mapping[Name, RequestLimit]


class StandbyRead(_Contract):
    """How old the rows may be that a standby answers a query with, and why that does no harm."""

    # Processes remember for a minute how far the primary was.
    staleness: Annotated[Duration, Field(le=timedelta(minutes=1))]
    because: Text


class ScalingSignal(_Contract):
    """A figure that is looked at before a tier grows: the question to Prometheus, whose bottleneck it shows, and from when on.

    Attributes:
        tiers: those that it is looked at for.
        query: PromQL; TIER stands for the tier.
        limit: a larger value is a bottleneck.
        remedy: what helps instead, or why another host does.
    """

    tiers: Annotated[tuple[Literal["api", "worker"], ...], Field(min_length=1)]
    of: Literal["postgresql", "external", "tier"]
    unit: Literal["share", "seconds", "count", "per second"]
    limit: Annotated[float, Field(ge=0)]
    query: Text
    remedy: Text


class _ScalingFile(_Contract):
    signals: Mapping[Name, ScalingSignal]


class _CanaryMeasure(_Contract):
    samples: Annotated[int, Field(ge=1)]
    critical: bool
    because: Text


class RateMeasure(_CanaryMeasure):
    """A share of all.

    Attributes:
        figure: server errors among requests, orders that fell out among all, or quotes that became orders.
        worse: which direction is.
        absolute: a difference up to this share is none.
        chance: how probable a difference may be between equal cohorts to be still taken for one.
    """

    figure: Literal["errors", "fallout", "conversion"]
    kind: Literal["rate"]
    worse: Literal["higher", "lower"]
    absolute: Annotated[float, Field(ge=0, lt=1)]
    chance: Annotated[float, Field(gt=0, le=0.05)]


class QuantileMeasure(_CanaryMeasure):
    """A time that a share of all keeps within, in seconds.

    Attributes:
        figure: from a request to its answer, or from one completed task of an order to the next.
        quantile: the share.
        absolute: seconds that are allowed beside the control's.
        relative: share of the control's that is allowed beside it.
    """

    figure: Literal["latency", "task-lead-time"]
    kind: Literal["quantile"]
    quantile: Annotated[float, Field(gt=0, lt=1)]
    worse: Literal["higher"]
    absolute: Annotated[float, Field(ge=0)]
    relative: Annotated[float, Field(ge=0)]


class PriceMeasure(_CanaryMeasure):
    """Prices of the same lines by two releases; nothing is tolerated, and so it is always critical."""

    figure: Literal["price"]
    kind: Literal["price"]
    worse: Literal["different"]
    critical: Literal[True]


CanaryMeasure = Annotated[RateMeasure | QuantileMeasure | PriceMeasure, Field(discriminator="kind")]


class _CanaryFile(_Contract):
    measures: Annotated[Mapping[Name, CanaryMeasure], Field(min_length=1)]


ChangeKind = Literal[
    "unit",
    "api",
    "event",
    "topic",
    "variables",
    "setting",
    "expand",
    "backfill",
    "contract",
    "job-type",
    "process",
    "redis-key",
    "flag",
]
"""What a release may change; of migrations, each phase is a kind of its own."""


RELEASE_PLAYBOOK = "release.yml"
ReleasePart = Literal["canary", "standby", "former", "others"]
"""Hosts of a tier that a release treats on their own: those of its canary, those that serve nobody before it sends
requests to them, those that served until then, and all others."""


class ReleaseStep(_Contract):
    """One step of a release, which one play does.

    Attributes:
        playbook: of playbooks/, which has the play; another one than release.yml is an act of its own, after the release.
        hosts: the hosts of the play, as Ansible names them.
        runbook: the line of the runbook that it is part of; 0 is the pre-check.
        units: deployables that it activates; it acts where one of them differs.
        readers_first: whether it acts only if events have something new (true) or only if not (false).
        part: of the hosts, those that it acts on; it does not act where the release has none of them.
    """

    step: Name
    play: Text
    playbook: Annotated[str, Field(pattern=r"^[a-z_]+\.yml$")] = RELEASE_PLAYBOOK
    hosts: Text
    runbook: Annotated[int, Field(ge=0)]
    spec: Text
    units: tuple[Name, ...] = ()
    readers_first: bool | None = None
    part: ReleasePart | None = None
    reason: Text
    gate: Text


class LaterAct(_Contract):
    """What people do when the release has ended, and the line of the runbook that it is part of."""

    runbook: Annotated[int, Field(ge=1)]
    act: Text


class ChangeOrder(_Contract):
    """The steps that bring a kind of change, in their order, and the acts that are left for people afterwards."""

    spec: Text
    steps: tuple[Name, ...]
    afterwards: tuple[LaterAct, ...] = ()


class ReleaseSteps(_Contract):
    """The lines of the runbook, what a release does in order, and in which order each kind of change comes."""

    runbook: tuple[Text, ...]
    steps: Annotated[tuple[ReleaseStep, ...], Field(min_length=1)]
    orders: Mapping[ChangeKind, ChangeOrder]


class ReleasePath(_Contract):
    """Which releases may follow one another: those of one generation, and of two that are next to each other."""

    generation: Annotated[int, Field(ge=1)]


EvidenceKind = Literal["build", "tests", "migration", "contracts", "manifest", "smoke", "approval"]
"""What a stage must show of a release before the next one takes it."""


class EvidenceSource(_Contract):
    """What the spec calls a kind of evidence, and which document has it."""

    spec: Text
    document: Literal["release", "tests", "approval"]


class PromotionStage(_Contract):
    """An environment on the path of a release.

    Attributes:
        after: the stages that come right before it.
        tests: stages of `make test` that must have passed for the commit before the release leaves this one.
        rehearsal: how old a rehearsal on the stage's own inventory may be when it takes a bundle; None asks for none.
        readiness: how old the answer of readiness.yml may be that every item is shown; None asks for none.
        valid: how long each kind of evidence holds.
    """

    after: tuple[Name, ...]
    tests: Annotated[tuple[Name, ...], Field(min_length=1)]
    rehearsal: Duration | None = None
    readiness: Duration | None = None
    valid: Mapping[EvidenceKind, Duration]


class Promotion(_Contract):
    """The path of a release: its stages in order, what each must show, and which environments are on none."""

    kinds: Mapping[EvidenceKind, EvidenceSource]
    stages: Annotated[Mapping[Name, PromotionStage], Field(min_length=1)]
    outside: Mapping[Name, Text]

    def before(self, stage: str) -> tuple[str, ...]:
        """Return every stage that a release has passed when it comes to `stage`, in the order of the path."""
        passed: set[str] = set()
        waiting = [*self.stages[stage].after]
        while waiting:
            name = waiting.pop()
            passed.add(name)
            waiting += self.stages[name].after
        return tuple(name for name in self.stages if name in passed)


class ReadinessItem(_Contract):
    """What must be shown of a release before it comes to production, and how.

    Attributes:
        spec: what the spec calls it.
        files: patterns of the bundle's files that must be as its manifest lists them; each has to match.
        evidence: kinds of evidence that a stage must have of the bundle, by stage.
        probe: what else is looked at; None where that is all.
        attested: whether a person signs it.
        valid: how long it holds from when it was taken.
        remedy: what turns it green.
    """

    spec: Text
    files: tuple[Text, ...] = ()
    evidence: Mapping[Name, Annotated[tuple[EvidenceKind, ...], Field(min_length=1)]] = Field(default_factory=dict)
    probe: Name | None = None
    attested: bool = False
    valid: Duration
    remedy: Text


class _ReadinessFile(_Contract):
    items: Annotated[Mapping[Name, ReadinessItem], Field(min_length=1)]


class _StandbyReadsFile(_Contract):
    standby_reads: Mapping[Name, Mapping[Identifier, StandbyRead]]


class FeatureFlag(_Contract):
    """A switch known to the code.

    `default` is the value where the inventory declares no other. `approval`: whether one operator may change it, or one
    asks and another approves. `needs`: a migration, such as a backfill, that must be done before it is on anywhere.
    """

    owner: Name
    type: Literal["bool"]
    default: bool
    approval: Literal["one-person", "two-person"]
    needs: Annotated[str, Field(pattern=r"^[0-9]{4}_(expand|backfill|contract)_[a-z0-9_]+$")] | None = None
    purpose: Text


class _FeatureFlagsFile(_Contract):
    flags: Mapping[Name, FeatureFlag]


class ExternalEndpoint(_Contract):
    """Where a system is called: the setting with the base URL of an environment, and the collection below it."""

    setting: Annotated[str, Field(pattern=r"^[A-Z][A-Z_]*_URL$")]
    collection: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9/-]*$")]


class ExternalRetry(_Contract):
    """How soon and how late a step asks a system again.

    Attributes:
        give_up_after: how long work that the system puts off may stay undone before a person has to look.
    """

    shortest_pause: Duration
    longest_pause: Duration
    give_up_after: Duration


class Environments(_Contract):
    """What follows from the name of an environment."""

    production: frozenset[Name]
    generated_orders: frozenset[Name]


class CircuitBreaker(_Contract):
    """When calls to a system stop for a while.

    Attributes:
        failures: failed calls in a row that open it.
        unproven_calls: most calls let out since one last succeeded.
        open_for: how long nothing is sent; then one call tries.
    """

    failures: Annotated[int, Field(ge=1)]
    unproven_calls: Annotated[int, Field(ge=1, le=10)]
    open_for: Duration


class RateLimit(_Contract):
    """Calls and queries of all processes together: `calls` in each `per`, after a burst of `burst`."""

    calls: Annotated[int, Field(ge=1)]
    per: Duration
    burst: Annotated[int, Field(ge=1)]

    @property
    def interval(self) -> timedelta:
        """Time between two calls at the steady rate."""
        return self.per / self.calls


class IdempotencyKey(_Contract):
    """How a system is told that two calls are the same, how it is asked what it did, and what makes the key."""

    header: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z-]*$")]
    query: Annotated[str, Field(pattern=r"^[a-z][A-Za-z]*$")]
    made_of: tuple[Literal["environment"], Literal["tenant"], Literal["order"], Literal["step"], Literal["epoch"]]


class Sandbox(_Contract):
    """How a system answers outside production, where the simulator plays it."""

    answers: Literal["done", "accepted"]
    finishes_after: Duration | None = None


class ExternalCallback(_Contract):
    """Whether a system finishes work by calling back, and how it knows the URL and proves itself.

    Attributes:
        url: `per-call`: each call names the URL of its tenant in `header`; `none`: the system never calls back.
        secret: the credential that the signing keys of the tenants are made from.
        window: how old or how far ahead a callback's timestamp may be.
    """

    url: Literal["none", "per-call"]
    header: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z-]*$")] | None = None
    secret: Name | None = None
    window: Duration | None = None


class ExternalReconciliation(_Contract):
    """How far back the regular comparison looks, and how fresh something may be to be left out of it."""

    looks_back: Duration
    grace: Duration


class ExternalSystemPolicy(_Contract):
    """Everything that is decided about one external system."""

    purpose: Text
    endpoint: ExternalEndpoint
    credential: Name
    timeout: Duration
    retry: ExternalRetry
    circuit_breaker: CircuitBreaker
    rate_limit: RateLimit
    idempotency_key: IdempotencyKey
    sandbox: Sandbox
    callback: ExternalCallback
    reconciliation: ExternalReconciliation


class _ExternalSystemsFile(_Contract):
    external_systems: Mapping[Name, ExternalSystemPolicy]


@dataclass(frozen=True)
class Contracts:
    """All contract files, checked against each other."""

    units: Mapping[str, Unit]
    job_types: JobTypes
    topics: Mapping[str, Topic]
    redis: RedisKeys
    flags: Mapping[str, FeatureFlag]
    processes: Processes
    external_systems: Mapping[str, ExternalSystemPolicy]
    consumer_groups: Mapping[str, ConsumerGroup]


def load_units(directory: Path = DIRECTORY) -> Mapping[str, Unit]:
    """Read units.yml; raises ContractError."""
    return _read(directory / "units.yml", _UnitsFile).units


def coloured_roles(units: Mapping[str, Unit]) -> tuple[str, ...]:
    """Name every role of which one colour works: a coloured unit, or each of its instances, such as `worker@starter`."""
    return tuple(
        f"{unit}@{instance}" if instance else unit
        for unit, declared in units.items()
        if declared.coloured
        for instance in (declared.instances or [""])
    )


def load_secrets(directory: Path = DIRECTORY) -> Secrets:
    """Read secrets.yml.

    Raises:
        ContractError: a secret is of no kind, a kind cannot change and says no reason, or its last step leaves the former value.
    """
    found = _read(directory / "secrets.yml", Secrets)
    problems = [
        f"secrets.yml: secrets.{name}.kind: {secret.kind!r} is not in kinds"
        for name, secret in found.secrets.items()
        if secret.kind not in found.kinds
    ]
    for name, kind in found.kinds.items():
        if not kind.steps and not kind.why_not:
            problems.append(f"secrets.yml: kinds.{name}.why_not: missing, for a kind without steps")
        if kind.steps and kind.steps[-1].value != ("new",):
            problems.append(f"secrets.yml: kinds.{name}.steps: the last one leaves the former value")
    if problems:
        raise ContractError(problems)
    return found


def load_job_types(directory: Path = DIRECTORY) -> JobTypes:
    """Read job_types.yml; raises ContractError."""
    return _read(directory / "job_types.yml", JobTypes)


def load_processes(directory: Path = DIRECTORY) -> Processes:
    """Read processes.yml; raises ContractError."""
    return _read(directory / "processes.yml", Processes)


def load_topics(directory: Path = DIRECTORY) -> Mapping[str, Topic]:
    """Read every file of topics/, by topic name; raises ContractError, also when a file is not named by its topic."""
    topics: dict[str, Topic] = {}
    problems: list[str] = []
    for path in sorted((directory / "topics").glob("*.yml")):
        try:
            topic = _read(path, Topic)
        except ContractError as error:
            problems += error.problems
            continue
        if path.stem != topic.name:
            problems.append(f"{_shown(path)}: name: is {topic.name!r}, the file's name says {path.stem!r}")
        topics[topic.name] = topic
    if problems:
        raise ContractError(problems)
    return topics


def load_consumer_groups(directory: Path = DIRECTORY) -> Mapping[str, ConsumerGroup]:
    """Read consumer_groups.yml; raises ContractError."""
    return _read(directory / "consumer_groups.yml", _ConsumerGroupsFile).groups


def load_redis_keys(directory: Path = DIRECTORY) -> RedisKeys:
    """Read redis_keys.yml; raises ContractError."""
    return _read(directory / "redis_keys.yml", RedisKeys)


def load_rate_limits(directory: Path = DIRECTORY) -> Mapping[str, RequestLimit]:
    """Read rate_limits.yml, by class of requests; raises ContractError."""
    return _read(directory / "rate_limits.yml", _RateLimitsFile).rate_limits


def load_standby_reads(unit: str, directory: Path = DIRECTORY) -> Mapping[str, StandbyRead]:
    """Read what a standby may answer of a unit's queries from standby_reads.yml; raises ContractError."""
    return _read(directory / "standby_reads.yml", _StandbyReadsFile).standby_reads[unit]


def load_scaling_signals(directory: Path = DIRECTORY) -> Mapping[str, ScalingSignal]:
    """Read scaling.yml, by signal; raises ContractError."""
    return _read(directory / "scaling.yml", _ScalingFile).signals


def load_canary_measures(directory: Path = DIRECTORY) -> Mapping[str, CanaryMeasure]:
    """Read canary.yml, by measure; raises ContractError, also where none is critical: nothing would ever abort."""
    measures = _read(directory / "canary.yml", _CanaryFile).measures
    if not any(measure.critical for measure in measures.values()):
        raise ContractError(["canary.yml: measures: none is critical"])
    return measures


def load_release_steps(directory: Path = DIRECTORY) -> ReleaseSteps:
    """Read release_steps.yml; raises ContractError, also where a kind of change has no order or one that the steps do not keep."""
    read = _read(directory / "release_steps.yml", ReleaseSteps)
    problems = [f"release_steps.yml: {problem}" for problem in _step_problems(read)]
    if problems:
        raise ContractError(problems)
    return read


def load_release_path(directory: Path = DIRECTORY) -> ReleasePath:
    """Read release_path.yml; raises ContractError."""
    return _read(directory / "release_path.yml", ReleasePath)


def load_promotion(directory: Path = DIRECTORY) -> Promotion:
    """Read promotion.yml; raises ContractError, also where a stage follows one that does not come before it, or lacks a kind's time."""
    read = _read(directory / "promotion.yml", Promotion)
    problems = [f"promotion.yml: {problem}" for problem in _promotion_problems(read)]
    if problems:
        raise ContractError(problems)
    return read


def _promotion_problems(promotion: Promotion) -> Iterable[str]:
    every = get_args(EvidenceKind)
    yield from (f"kinds.{kind}: missing" for kind in every if kind not in promotion.kinds)
    seen: set[str] = set()
    for number, (name, stage) in enumerate(promotion.stages.items()):
        yield from (f"stages.{name}.valid.{kind}: missing" for kind in every if kind not in stage.valid)
        yield from (
            f"stages.{name}.after: {other!r} is no stage before it" for other in stage.after if other not in seen
        )
        if number and not stage.after:
            yield f"stages.{name}.after: empty, and it is not the first stage"
        if name in promotion.outside:
            yield f"outside.{name}: is a stage as well"
        seen.add(name)


def load_readiness(directory: Path = DIRECTORY) -> Mapping[str, ReadinessItem]:
    """Read readiness.yml, by item; raises ContractError, also where an item shows nothing, or asks for evidence of what is no stage."""
    items = _read(directory / "readiness.yml", _ReadinessFile).items
    stages = load_promotion(directory).stages
    problems = [
        f"readiness.yml: items.{name}.{problem}"
        for name, item in items.items()
        for problem in _readiness_problems(item, stages)
    ]
    if problems:
        raise ContractError(problems)
    return items


def _readiness_problems(item: ReadinessItem, stages: Mapping[str, PromotionStage]) -> Iterable[str]:
    if not (item.files or item.evidence or item.probe or item.attested):
        yield "probe: missing, and nothing else shows it (files, evidence, attested)"
    yield from (f"evidence.{stage}: is no stage of promotion.yml" for stage in item.evidence if stage not in stages)


def load_feature_flags(directory: Path = DIRECTORY) -> Mapping[str, FeatureFlag]:
    """Read feature_flags.yml; raises ContractError."""
    return _read(directory / "feature_flags.yml", _FeatureFlagsFile).flags


def load_external_systems(directory: Path = DIRECTORY) -> Mapping[str, ExternalSystemPolicy]:
    """Read external_systems.yml, by system; raises ContractError, also when a policy contradicts itself."""
    systems = _read(directory / "external_systems.yml", _ExternalSystemsFile).external_systems
    problems = [
        f"external_systems.yml: external_systems.{name}.{problem}"
        for name, policy in systems.items()
        for problem in _policy_problems(name, policy)
    ]
    if problems:
        raise ContractError(problems)
    return systems


def load_environments(directory: Path = DIRECTORY) -> Environments:
    """Read environments.yml; raises ContractError."""
    return _read(directory / "environments.yml", Environments)


def environment_problems(environment: str, kind: str, directory: Path = DIRECTORY) -> list[str]:
    """Say what is wrong with taking an environment for this kind, `production` or `non-production`; raises ContractError.

    What endpoints must prove follows from the name of the environment: settings that were copied from another one are found.
    """
    production = load_environments(directory).production
    declared = "production" if environment in production else "non-production"
    if kind == declared:
        return []
    return [f"EXTERNAL_ENVIRONMENT: expected {declared}, which {environment} is by environments.yml; given: {kind}"]


def may_hold_generated_orders(environment: str, directory: Path = DIRECTORY) -> bool:
    """Tell whether an environment may be filled with orders that nobody placed; raises ContractError."""
    return environment in load_environments(directory).generated_orders


def _step_problems(read: ReleaseSteps) -> Iterable[str]:
    names = [step.step for step in read.steps]
    if len(set(names)) < len(names):
        yield "steps: a step is there twice"
    if list(read.steps) != sorted(read.steps, key=lambda step: step.playbook != RELEASE_PLAYBOOK):
        yield f"steps: one of {RELEASE_PLAYBOOK} comes after an act that follows the release"
    lines = [step.runbook for step in read.steps] + [
        later.runbook for order in read.orders.values() for later in order.afterwards
    ]
    if max(lines) > len(read.runbook):
        yield f"runbook: has no line {max(lines)}"
    for kind in get_args(ChangeKind):
        if kind not in read.orders:
            yield f"orders: {kind} is missing"
    for kind, order in read.orders.items():
        if unknown := [name for name in order.steps if name not in names]:
            yield f"orders.{kind}.steps: {', '.join(unknown)}: no such step"
        elif list(order.steps) != sorted(order.steps, key=names.index):
            yield f"orders.{kind}.steps: the steps come in another order"


def _policy_problems(name: str, policy: ExternalSystemPolicy) -> Iterable[str]:
    setting = f"{name.upper().replace('-', '_')}_URL"
    if policy.endpoint.setting != setting:
        yield f"endpoint.setting: expected {setting}, after the system"
    if policy.credential != f"{name}-token":
        yield f"credential: expected {name}-token, after the system"
    if policy.retry.longest_pause < policy.retry.shortest_pause:
        yield "retry.longest_pause: is shorter than shortest_pause"
    if policy.retry.give_up_after < policy.retry.longest_pause:
        yield "retry.give_up_after: is shorter than longest_pause"
    if policy.circuit_breaker.unproven_calls < policy.circuit_breaker.failures:
        yield "circuit_breaker.unproven_calls: are fewer than failures, so it could never open"
    if (policy.sandbox.answers == "accepted") != (policy.sandbox.finishes_after is not None):
        yield "sandbox.finishes_after: belongs to what is accepted, and to nothing else"
    yield from _callback_problems(name, policy)


def _callback_problems(name: str, policy: ExternalSystemPolicy) -> Iterable[str]:
    callback = policy.callback
    details = (callback.header, callback.secret, callback.window)
    if callback.url == "none":
        if any(detail is not None for detail in details):
            yield "callback: a system that never calls back has no header, secret or window"
        if policy.sandbox.answers == "accepted":
            yield "sandbox.answers: what is accepted is finished by callback, and callback.url is none"
    elif any(detail is None for detail in details):
        yield "callback: header, secret and window are needed"
    elif callback.secret != f"{name}-callback-secret":
        yield f"callback.secret: expected {name}-callback-secret, after the system"


def load(directory: Path = DIRECTORY) -> Contracts:
    """Read all contract files and hold them against each other.

    Raises:
        ContractError: with the problems of all files, or, when each is sound by itself, of their disagreements.
    """
    problems: list[str] = []
    units = _collect(problems, load_units, directory)
    job_types = _collect(problems, load_job_types, directory)
    topics = _collect(problems, load_topics, directory)
    redis = _collect(problems, load_redis_keys, directory)
    flags = _collect(problems, load_feature_flags, directory)
    processes = _collect(problems, load_processes, directory)
    systems = _collect(problems, load_external_systems, directory)
    consumer_groups = _collect(problems, load_consumer_groups, directory)
    if (
        units is None
        or job_types is None
        or topics is None
        or redis is None
        or flags is None
        or processes is None
        or systems is None
        or consumer_groups is None
    ):
        raise ContractError(problems)
    contracts = Contracts(units, job_types, topics, redis, flags, processes, systems, consumer_groups)
    problems += _disagreements(contracts, directory)
    if problems:
        raise ContractError(problems)
    return contracts


T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def _collect(problems: list[str], read: Callable[[Path], T], directory: Path) -> T | None:
    try:
        return read(directory)
    except ContractError as error:
        problems += error.problems
        return None


def _disagreements(contracts: Contracts, directory: Path) -> list[str]:
    return [
        *_port_problems(contracts.units),
        *_unit_problems(contracts),
        *_job_problems(contracts),
        *_topic_problems(contracts, directory),
        *_process_problems(contracts, directory),
        *_external_system_problems(contracts),
        *_consumer_group_problems(contracts),
    ]


def _port_problems(units: Mapping[str, Unit]) -> Iterable[str]:
    taken: dict[int, str] = {}
    for name, unit in units.items():
        listening = {"http_port": unit.http_port, "metrics_port": unit.metrics_port}
        listening |= {f"instances.{key}.metrics_port": value.metrics_port for key, value in unit.instances.items()}
        for field, port in listening.items():
            if port is None:
                continue
            if port in taken:
                yield f"units.yml: units.{name}.{field}: port {port} is taken by {taken[port]}"
            taken[port] = f"units.{name}.{field}"


def _unit_problems(contracts: Contracts) -> Iterable[str]:
    for name, unit in contracts.units.items():
        if unit.instances and "@" not in unit.service:
            yield f"units.yml: units.{name}.instances: {unit.service} is no template and has no instances"
        if unit.redis_user is not None and unit.redis_user not in contracts.redis.users:
            yield f"units.yml: units.{name}.redis_user: {unit.redis_user!r} is not in redis_keys.yml"


def _job_problems(contracts: Contracts) -> Iterable[str]:
    groups = set(contracts.job_types.groups)
    for name, job_type in contracts.job_types.job_types.items():
        if job_type.group not in groups:
            yield f"job_types.yml: job_types.{name}.group: {job_type.group!r} is not among groups"
    for group in sorted(groups ^ _instances(contracts, "worker")):
        yield f"job_types.yml: groups.{group}: groups and the worker's instances in units.yml differ in it"


def _topic_problems(contracts: Contracts, directory: Path) -> Iterable[str]:
    users = {unit.kafka_user for unit in contracts.units.values()}
    groups = _instances(contracts, "consumer")
    for topic in contracts.topics.values():
        file = f"topics/{topic.name}.yml"
        for group in topic.consumer_groups:
            if group not in groups:
                yield f"{file}: consumer_groups: {group!r} is no instance of the consumer"
        if topic.kind == "engine-records":
            continue  # the workflow engine's exporter writes it, as a user of its own
        for producer in topic.producers:
            if producer not in users:
                yield f"{file}: producers: {producer!r} is no unit's kafka_user"
    yield from topic_problems(contracts.topics, directory / "events")


def _process_problems(contracts: Contracts, directory: Path) -> Iterable[str]:
    declared = contracts.processes
    for flag in declared.route_flags:
        if flag not in contracts.flags:
            yield f"processes.yml: route_flags: {flag!r} is not in feature_flags.yml"
    for name, routing in declared.routing.items():
        if routing.default is not None and routing.default not in declared.processes:
            yield f"processes.yml: routing.{name}.default: {routing.default!r} is not among processes"
    for process_id, process in declared.processes.items():
        where = f"processes.yml: processes.{process_id}"
        if business_process(process_id) not in declared.routing:
            yield f"{where}: {business_process(process_id)!r} is not in routing"
        if process.file != f"{process_id}.bpmn":
            yield f"{where}.file: is {process.file!r}, the process id says {process_id}.bpmn"
        if not (directory / "variables" / process.variables_schema).is_file():
            yield f"{where}.variables_schema: variables/{process.variables_schema} does not exist"


def _external_system_problems(contracts: Contracts) -> Iterable[str]:
    systems = contracts.external_systems
    for name, job_type in contracts.job_types.job_types.items():
        if job_type.external_system is None:
            continue
        policy = systems.get(job_type.external_system)
        if policy is None:
            yield f"job_types.yml: job_types.{name}.external_system: {job_type.external_system!r} is not declared"
        elif job_type.retry_backoff < policy.retry.shortest_pause:
            yield f"job_types.yml: job_types.{name}.retry_backoff: {job_type.external_system} wants a longer pause"
    tokens = {policy.credential for policy in systems.values()}
    secrets = {policy.callback.secret for policy in systems.values() if policy.callback.secret}
    for name, unit in contracts.units.items():
        for kind, declared in (("-token", tokens), ("-callback-secret", secrets)):
            held = {credential for credential in unit.credentials if credential.endswith(kind)}
            # A unit has to do with every system or with none.
            for credential in sorted(held ^ declared) if held else ():
                yield f"units.yml: units.{name}.credentials: {credential} is here or in external_systems.yml, not in both"


def _consumer_group_problems(contracts: Contracts) -> Iterable[str]:
    for name, declared in contracts.consumer_groups.items():
        if declared.reaction is not None and declared.reaction.external_system not in contracts.external_systems:
            system = declared.reaction.external_system
            yield f"consumer_groups.yml: groups.{name}.reaction: {system!r} is not in external_systems.yml"
    for group in sorted(set(contracts.consumer_groups) ^ _instances(contracts, "consumer")):
        yield f"consumer_groups.yml: groups.{group}: groups and the consumer's instances in units.yml differ in it"
    for topic in contracts.topics.values():
        if not topic.consumer_groups:
            continue
        if topic.dead_letter_payload is None:
            yield f"topics/{topic.name}.yml: dead_letter_payload: say whether dead letters carry the event or refer to it"


def _instances(contracts: Contracts, unit: str) -> set[str]:
    declared = contracts.units.get(unit)
    return set(declared.instances) if declared else set()


class _UniqueKeys(yaml.SafeLoader):
    """YAML's own loader keeps the last of two equal keys and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path, model: type[M]) -> M:
    shown = _shown(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ContractError([f"{shown}: cannot be read: {error.strerror}"]) from error
    except yaml.YAMLError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise ContractError([f"{shown}: {reason}"]) from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ContractError(
            f"{shown}: {'.'.join(str(part) for part in problem['loc']) or 'document'}: {problem['msg']}"
            for problem in error.errors()
        ) from error


def _shown(path: Path) -> str:
    return f"topics/{path.name}" if path.parent.name == "topics" else path.name


Privilege = Literal["SELECT", "INSERT", "UPDATE", "DELETE"]


class RoleGrants(_Contract):
    """Everything one database role may do; `*` among the tables means all of them."""

    tables: Mapping[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_]*)$")], tuple[Privilege, ...]]
    functions: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\([a-z, \[\]]*\)$")], ...]


class _DatabaseGrantsFile(_Contract):
    roles: Mapping[Identifier, RoleGrants]


def load_database_grants(directory: Path = DIRECTORY) -> Mapping[str, RoleGrants]:
    """Read database_grants.yml, by role; raises ContractError."""
    return _read(directory / "database_grants.yml", _DatabaseGrantsFile).roles


EVERY = "every"
"""Stands for every tier: as the end of a flow, and for the ports that each host has."""

_FLOWS_FILE = "network_flows.yml"
_OPERATORS = "operators"

Protocol = Literal["tcp", "udp", "vrrp"]


def _numbers(value: object) -> object:
    return [value] if isinstance(value, int) else value


def _service(value: object) -> object:
    return {"port": value} if isinstance(value, (int, list)) else value


class Service(_Contract):
    """What listens: port numbers and protocols; a protocol without ports has no numbers."""

    port: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], BeforeValidator(_numbers)] = ()
    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("tcp",)


class Outsider(_Contract):
    """A party that is no host of the environment; `networks` names where its addresses come from."""

    networks: Literal["anywhere", "operations", "infrastructure"]
    purpose: Text


class Flow(_Contract):
    """Parties that may connect to a port of others, and why."""

    sources: Annotated[tuple[Name, ...], Field(min_length=1, alias="from")]
    targets: Annotated[tuple[Name, ...], Field(min_length=1, alias="to")]
    port: Name
    reason: Text


class NetworkFlows(_Contract):
    """The whole table; `ports` has those of the units as well."""

    zones: Mapping[Name, Text]
    tiers: Mapping[Name, Name]
    outsiders: Mapping[Name, Outsider]
    ports: Mapping[Name, Mapping[Name, Annotated[Service, BeforeValidator(_service)]]]
    operations_only: tuple[Name, ...]
    flows: tuple[Flow, ...]

    def services(self, tier: str) -> Mapping[str, Service]:
        """Return what hosts of a tier listen on."""
        return {**self.ports.get(EVERY, {}), **self.ports.get(tier, {})}

    def sources(self, flow: Flow) -> tuple[str, ...]:
        """Return the parties of a flow that may connect."""
        return tuple(self.tiers) if EVERY in flow.sources else flow.sources


def load_network_flows(directory: Path = DIRECTORY) -> NetworkFlows:
    """Read network_flows.yml, with the ports of the units from units.yml; raises ContractError with every problem."""
    declared = _read(directory / _FLOWS_FILE, NetworkFlows)
    units = load_units(directory)
    problems = [
        f"{_FLOWS_FILE}: ports.{tier}.{name}: is declared in units.yml"
        for tier, unit in units.items()
        for name in _unit_services(unit)
        if name in declared.ports.get(tier, {})
    ]
    ports = {
        tier: {**declared.ports.get(tier, {}), **(_unit_services(units[tier]) if tier in units else {})}
        for tier in dict.fromkeys((*declared.ports, *units))
    }
    flows = declared.model_copy(update={"ports": {tier: services for tier, services in ports.items() if services}})
    problems += _network_problems(flows)
    if problems:
        raise ContractError(problems)
    return flows


def _unit_services(unit: Unit) -> dict[str, Service]:
    metrics = [unit.metrics_port, *(instance.metrics_port for instance in unit.instances.values())]
    found = {"http": [unit.http_port], "metrics": metrics}
    return {
        name: Service(port=tuple(port for port in ports if port is not None))
        for name, ports in found.items()
        if any(ports)
    }


def _network_problems(flows: NetworkFlows) -> Iterable[str]:
    for tier, zone in flows.tiers.items():
        if zone not in flows.zones:
            yield f"{_FLOWS_FILE}: tiers.{tier}: {zone!r} is not among zones"
    for party in flows.ports:
        if party not in (EVERY, *flows.tiers, *flows.outsiders):
            yield f"{_FLOWS_FILE}: ports.{party}: is neither a tier nor an outsider"
    for number, flow in enumerate(flows.flows):
        yield from (
            f"{_FLOWS_FILE}: flows[{number}] ({flow.reason}): {problem}" for problem in _flow_problems(flows, flow)
        )
    reached = {(target, flow.port) for flow in flows.flows for target in flow.targets}
    for party, services in flows.ports.items():
        for name in services:
            if (party, name) not in reached:
                yield f"{_FLOWS_FILE}: ports.{party}.{name}: no flow leads there"


def _flow_problems(flows: NetworkFlows, flow: Flow) -> Iterable[str]:
    known = {EVERY, *flows.tiers, *flows.outsiders}
    unknown = sorted({*flow.sources, *flow.targets} - known)
    if unknown:
        yield f"{', '.join(unknown)}: neither a tier nor an outsider"
        return
    for target in flow.targets:
        names = flows.ports.get(target, {}) if target in {EVERY, *flows.outsiders} else flows.services(target)
        if flow.port not in names:
            yield f"{target} has no port {flow.port}"
    for source in flow.sources:
        zone = flows.tiers.get(source)
        if flow.port in flows.operations_only and source != _OPERATORS and zone != "operations":
            yield f"{source} may not reach {flow.port}, which is for the operations zone"
        if source in flows.outsiders and source != _OPERATORS:
            yield from (
                f"{source} may reach the public zone only, and {target} is in another"
                for target in flow.targets
                if flows.tiers.get(target) != "public"
            )
