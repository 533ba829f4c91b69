"""Topics and access lists as declared, and what the cluster says of its own health.

Creates missing topics, raises partition counts, repairs retention and cleanup policy, and gives and takes access.
It never deletes a topic and never lowers a partition count: such a difference is reported and left to a person.
Synchronous: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import KafkaError

from app.application.operations import OperationError
from app.contracts.loader import Topic

_TIMEOUT_MS = 5000
_OBSERVER = "observer"


class KafkaUnreachableError(OperationError):
    """The cluster did not answer, or refused; the message says which."""


class TopicsRefusedError(OperationError):
    """A topic differs in a way that is never repaired by itself; `problems` has a line for each."""


@dataclass(frozen=True, order=True)
class Access:
    """One permission of one user."""

    user: str
    operation: str
    resource: str
    name: str
    pattern: str = "LITERAL"

    def __str__(self) -> str:
        prefix = "*" if self.pattern == "PREFIXED" else ""
        return f"{self.user}: {self.operation} on {self.resource.lower()} {self.name}{prefix}"


@dataclass(frozen=True)
class TopicsPlan:
    """What differs from the contract.

    Attributes:
        create: missing topics.
        grow: topics with too few partitions, with the count they need.
        configure: settings to change, by topic.
        give, take: access that is missing, and access of the platform's users that is not declared.
    """

    create: tuple[str, ...] = ()
    grow: Mapping[str, int] = field(default_factory=dict)
    configure: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    give: tuple[Access, ...] = ()
    take: tuple[Access, ...] = ()

    @property
    def changes(self) -> list[str]:
        """One line per difference."""
        return [
            *(f"create topic {name}" for name in self.create),
            *(f"raise {name} to {count} partitions" for name, count in self.grow.items()),
            *(
                f"set {key}={value} on {name}"
                for name, settings in self.configure.items()
                for key, value in settings.items()
            ),
            *(f"allow {access}" for access in self.give),
            *(f"withdraw {access}" for access in self.take),
        ]


@dataclass(frozen=True)
class ClusterState:
    """Brokers that answer, and partitions without a leader or with fewer replicas in sync than they have."""

    brokers: int
    unavailable: tuple[str, ...]


def declared_access(topics: Mapping[str, Topic], consumer_user: str) -> set[Access]:
    """Derive every permission from who produces and consumes which topic."""
    wanted: set[Access] = set()
    for topic in topics.values():
        for user in topic.producers:
            wanted |= {Access(user, operation, "TOPIC", topic.name) for operation in ("WRITE", "DESCRIBE")}
            if topic.transactional:
                # The engine's exporter takes a new random identifier at every start.
                wanted |= {Access(user, operation, "TRANSACTIONAL_ID", "*") for operation in ("WRITE", "DESCRIBE")}
        readers = [_OBSERVER, consumer_user] if topic.consumer_groups else [_OBSERVER]
        for user in readers:
            wanted |= {Access(user, operation, "TOPIC", topic.name) for operation in ("READ", "DESCRIBE")}
        wanted |= {Access(consumer_user, "READ", "GROUP", group) for group in topic.consumer_groups}
    return wanted


class KafkaAdministration:
    """One session of the cluster's super user."""

    def __init__(self, client: KafkaAdminClient) -> None:
        self._client = client

    def plan(self, topics: Mapping[str, Topic], wanted: set[Access], replication_factor: int) -> TopicsPlan:
        """Compare without changing.

        Raises:
            TopicsRefusedError: a topic has more partitions than declared, or another replication factor.
            KafkaUnreachableError: the cluster did not answer.
        """
        with _answers():
            present = {topic["name"]: topic for topic in self._client.describe_topics()}
            settings = self._settings([name for name in topics if name in present])
            access = self._access()
        problems: list[str] = []
        grow: dict[str, int] = {}
        configure: dict[str, dict[str, str]] = {}
        for name, topic in topics.items():
            if name not in present:
                continue
            partitions = present[name]["partitions"]
            if len(partitions) < topic.partitions:
                grow[name] = topic.partitions
            elif len(partitions) > topic.partitions:
                problems.append(
                    f"{name} has {len(partitions)} partitions, declared are {topic.partitions}: a partition is never removed; "
                    "declare what is there"
                )
            replicas = {len(partition["replica_nodes"]) for partition in partitions}
            if replicas != {replication_factor}:
                problems.append(
                    f"{name} has replication factor {'/'.join(map(str, sorted(replicas)))}, the inventory says "
                    f"{replication_factor}: reassign its replicas"
                )
            wrong = {key: value for key, value in _settings_of(topic).items() if settings[name].get(key) != value}
            if wrong:
                configure[name] = wrong
        if problems:
            raise TopicsRefusedError(*problems)
        users = {entry.user for entry in wanted}
        return TopicsPlan(
            create=tuple(name for name in topics if name not in present),
            grow=grow,
            configure=configure,
            give=tuple(sorted(wanted - access)),
            take=tuple(sorted(entry for entry in access - wanted if entry.user in users)),
        )

    def apply(self, plan: TopicsPlan, topics: Mapping[str, Topic], replication_factor: int) -> None:
        """Make the differences of a plan go away; each step may be repeated after a crash.

        Raises:
            KafkaUnreachableError: the cluster did not answer or refused; what was done stays done.
        """
        with _answers():
            if plan.create:
                self._client.create_topics(
                    {
                        name: {
                            "num_partitions": topics[name].partitions,
                            "replication_factor": replication_factor,
                            "configs": _settings_of(topics[name]),
                        }
                        for name in plan.create
                    },
                    wait_for_metadata=True,
                )
            if plan.grow:
                self._client.create_partitions(dict(plan.grow))
            if plan.configure:
                self._client.alter_configs(
                    [
                        ConfigResource(ConfigResourceType.TOPIC, name, dict(settings))
                        for name, settings in plan.configure.items()
                    ]
                )
            if plan.give:
                failed = self._client.create_acls([_acl(access) for access in plan.give])["failed"]
                if failed:
                    raise KafkaUnreachableError(f"access was not given: {failed[0].__name__}")
            if plan.take:
                self._client.delete_acls([_filter(access) for access in plan.take])

    def state(self) -> ClusterState:
        """Describe the cluster's health.

        Raises:
            KafkaUnreachableError: the cluster did not answer.
        """
        with _answers():
            brokers = len(self._client.describe_cluster()["brokers"])
            unavailable = tuple(
                f"{topic['name']}/{partition['partition_index']}"
                for topic in self._client.describe_topics()
                for partition in topic["partitions"]
                if partition["leader_id"] < 0 or len(partition["isr_nodes"]) < len(partition["replica_nodes"])
            )
        return ClusterState(brokers, unavailable)

    def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        described = self._client.describe_configs(resources, config_filter="all")["topic"]
        return {name: {key: entry["value"] for key, entry in described[name].items()} for name in names}

    def _access(self) -> set[Access]:
        everything = ACLFilter(
            principal=None,
            host=None,
            operation=ACLOperation.ANY,
            permission_type=ACLPermissionType.ANY,
            resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
        )
        entries, _ = self._client.describe_acls(everything)
        return {
            Access(
                entry.principal.removeprefix("User:"),
                entry.operation.name,
                entry.resource_pattern.resource_type.name,
                entry.resource_pattern.resource_name,
                entry.resource_pattern.pattern_type.name,
            )
            for entry in entries
        }


@contextmanager
def open_administration(servers: Sequence[str], username: str, password: str) -> Iterator[KafkaAdministration]:
    """Connect as the cluster's super user.

    Raises:
        KafkaUnreachableError: no broker answered within five seconds, or the credentials were refused.
    """
    with _answers():
        client = KafkaAdminClient(
            bootstrap_servers=list(servers),
            client_id="cpq-oms-admin",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_plain_username=username,
            sasl_plain_password=password,
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_TIMEOUT_MS,
        )
    try:
        yield KafkaAdministration(client)
    finally:
        client.close()


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as error:
        raise KafkaUnreachableError(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _settings_of(topic: Topic) -> dict[str, str]:
    return {"retention.ms": str(topic.retention_ms), "cleanup.policy": topic.cleanup_policy}


def _acl(access: Access) -> Any:
    return ACL(
        principal=f"User:{access.user}",
        host="*",
        operation=ACLOperation[access.operation],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(
            ResourceType[access.resource], access.name, ACLResourcePatternType[access.pattern]
        ),
    )


def _filter(access: Access) -> Any:
    """Match the entry whatever its host and permission type are: an entry that is not declared goes in every form."""
    return ACLFilter(
        principal=f"User:{access.user}",
        host=None,
        operation=ACLOperation[access.operation],
        permission_type=ACLPermissionType.ANY,
        resource_pattern=ResourcePatternFilter(
            ResourceType[access.resource], access.name, ACLResourcePatternType[access.pattern]
        ),
    )
