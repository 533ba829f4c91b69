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
from typing import Annotated, Any, Literal, TypeVar

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
    credentials: tuple[Name, ...] = ()
    instances: Mapping[Name, Instance] = Field(default_factory=dict)


class _UnitsFile(_Contract):
    units: Mapping[Name, Unit]


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
    """What one Redis user may touch."""

    keys: tuple[Text, ...]
    commands: tuple[Annotated[str, Field(pattern=r"^[+-]")], ...]


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


class FeatureFlag(_Contract):
    """A switch known to the code.

    `default` is the value where the inventory declares no other. `approval`: whether one operator may change it, or one
    asks and another approves.
    """

    owner: Name
    type: Literal["bool"]
    default: bool
    approval: Literal["one-person", "two-person"]
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


class _EnvironmentsFile(_Contract):
    production: frozenset[Name]


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


def environment_problems(environment: str, kind: str, directory: Path = DIRECTORY) -> list[str]:
    """Say what is wrong with taking an environment for this kind, `production` or `non-production`; raises ContractError.

    What endpoints must prove follows from the name of the environment: settings that were copied from another one are found.
    """
    production = _read(directory / "environments.yml", _EnvironmentsFile).production
    declared = "production" if environment in production else "non-production"
    if kind == declared:
        return []
    return [f"EXTERNAL_ENVIRONMENT: expected {declared}, which {environment} is by environments.yml; given: {kind}"]


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
