"""Topics and access lists as declared, and what the cluster says of its own health.

Creates missing topics, raises partition counts, repairs settings, and gives and takes access. It never deletes a topic,
and never lowers a partition count or a retention: such a difference is named and left to a person.
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
    AlterConfigOp,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import KafkaError

from app.adapters.kafka.connection import KafkaConnection
from app.application.operations import OperationError
from app.contracts.loader import Topic

_TIMEOUT_MS = 5000
_OBSERVER = "observer"
_USER = "User:"
_AUTO_CREATE = "auto.create.topics.enable"
_SET_ON_TOPIC = "DYNAMIC_TOPIC_CONFIG"
_THERE = "there"
_GIVEN = "given"
_CONSUMED = "consumed"
# Of a group without members; every other state is one that members pass through.
_EMPTY_STATES = frozenset({"Empty", "Dead"})


class KafkaUnreachableError(OperationError):
    """The cluster did not answer, or refused; the message says which."""


class TopicsRefusedError(OperationError):
    """A topic differs in a way that is never repaired by itself; `problems` has a line for each."""


@dataclass(frozen=True, order=True)
class Access:
    """One entry of the access list: what one user may do, or with `permission` DENY must not, from `host`."""

    user: str
    operation: str
    resource: str
    name: str
    pattern: str = "LITERAL"
    permission: str = "ALLOW"
    host: str = "*"

    def __str__(self) -> str:
        prefix = "*" if self.pattern == "PREFIXED" else ""
        denied = "denied " if self.permission == "DENY" else ""
        place = "" if self.host == "*" else f" from {self.host}"
        return f"{self.user}: {denied}{self.operation} on {self.resource.lower()} {self.name}{prefix}{place}"


@dataclass(frozen=True)
class TopicsPlan:
    """What differs from the contract.

    Attributes:
        create: missing topics.
        grow: topics with too few partitions, with the count they need.
        configure: settings to change, by topic.
        reset: settings that somebody made and the contract does not know, by topic.
        give, take: access that is missing, and access to what is ours, or of our users, that is not declared.
        refused: differences that nothing here repairs, a line for each with what to do.
        undeclared: topics of the cluster that are not in the contract, left alone.
    """

    create: tuple[str, ...] = ()
    grow: Mapping[str, int] = field(default_factory=dict)
    configure: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reset: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    give: tuple[Access, ...] = ()
    take: tuple[Access, ...] = ()
    refused: tuple[str, ...] = ()
    undeclared: tuple[str, ...] = ()

    @property
    def changes(self) -> list[str]:
        """One line per difference that applying the plan takes away."""
        return [
            *(f"create topic {name}" for name in self.create),
            *(f"raise {name} to {count} partitions" for name, count in self.grow.items()),
            *(
                f"set {key}={value} on {name}"
                for name, settings in self.configure.items()
                for key, value in settings.items()
            ),
            *(f"reset {key} on {name} to the broker's default" for name, keys in self.reset.items() for key in keys),
            *(f"allow {access}" for access in self.give),
            *(f"withdraw {access}" for access in self.take),
        ]


@dataclass(frozen=True)
class KafkaPlane:
    """One plane of the cluster, as texts by item: what is declared, what is live, and of the live what only we may have made."""

    declared: Mapping[str, str]
    live: Mapping[str, str]
    ours: frozenset[str] = frozenset()


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

    def compare(self, topics: Mapping[str, Topic], wanted: set[Access], brokers: int) -> TopicsPlan:
        """Compare without changing and without judging.

        Args:
            topics: as declared.
            wanted: all access that is to be.
            brokers: how many the environment declares, from which the copies of each partition follow.

        Raises:
            KafkaUnreachableError: the cluster did not answer.
        """
        with _answers():
            present = {topic["name"]: topic for topic in self._client.describe_topics()}
            settings = self._settings([name for name in topics if name in present])
            access = self._access()
            refused = self._broker_problems()
        grow: dict[str, int] = {}
        configure: dict[str, dict[str, str]] = {}
        reset: dict[str, tuple[str, ...]] = {}
        for name, topic in topics.items():
            if name not in present:
                continue
            partitions, declared = present[name]["partitions"], topic.settings(brokers)
            if len(partitions) < topic.partitions:
                grow[name] = topic.partitions
            refused += _refused(topic, brokers, partitions, settings[name])
            wrong = {key: value for key, value in declared.items() if settings[name][key]["value"] != value}
            if wrong:
                configure[name] = wrong
            strange = sorted(
                key
                for key, entry in settings[name].items()
                if entry["config_source"] == _SET_ON_TOPIC and key not in declared
            )
            if strange:
                reset[name] = tuple(strange)
        return TopicsPlan(
            create=tuple(name for name in topics if name not in present),
            grow=grow,
            configure=configure,
            reset=reset,
            give=tuple(sorted(wanted - access)),
            take=tuple(sorted(entry for entry in access - wanted if _is_ours(entry, topics, wanted))),
            refused=tuple(refused),
            undeclared=tuple(sorted(name for name in present if name not in topics and not name.startswith("__"))),
        )

    def plan(
        self, topics: Mapping[str, Topic], wanted: set[Access], brokers: int, *, may_grow: bool = False
    ) -> TopicsPlan:
        """Compare without changing; see `compare`.

        Args:
            topics: as declared.
            wanted: all access that is to be.
            brokers: how many the environment declares.
            may_grow: whether somebody saw to it that no event is on its way; the key decides the partition, so after a
                growth an aggregate's next event may be in another partition than those before it, and be applied first.

        Raises:
            TopicsRefusedError: a topic has more partitions or a longer retention than declared, or another number of
                copies; it would have to grow and may not; or the brokers create topics that nobody declared.
            KafkaUnreachableError: the cluster did not answer.
        """
        plan = self.compare(topics, wanted, brokers)
        growing = [] if may_grow else [name for name in plan.grow if topics[name].partition_key is not None]
        refused = [*plan.refused, *(_growth_refused(name, plan.grow[name]) for name in growing)]
        if refused:
            raise TopicsRefusedError(*refused)
        return plan

    def apply(self, plan: TopicsPlan, topics: Mapping[str, Topic], brokers: int) -> None:
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
                            "replication_factor": topics[name].replicas(brokers),
                            "configs": topics[name].settings(brokers),
                        }
                        for name in plan.create
                    },
                    wait_for_metadata=True,
                )
            if plan.grow:
                self._client.create_partitions(dict(plan.grow))
            changed: dict[str, dict[str, Any]] = {name: dict(settings) for name, settings in plan.configure.items()}
            for name, keys in plan.reset.items():
                changed.setdefault(name, {}).update(dict.fromkeys(keys, (AlterConfigOp.DELETE, None)))
            if changed:
                self._client.alter_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, name, settings) for name, settings in changed.items()]
                )
            if plan.give:
                failed = self._client.create_acls([_acl(access) for access in plan.give])["failed"]
                if failed:
                    raise KafkaUnreachableError(f"access was not given: {failed[0].__name__}")
            if plan.take:
                self._client.delete_acls([_filter(access) for access in plan.take])

    def planes(self, topics: Mapping[str, Topic], wanted: set[Access], brokers: int) -> dict[str, KafkaPlane]:
        """Describe topics, access and groups, each declared and live.

        Raises:
            KafkaUnreachableError: the cluster did not answer.
        """
        with _answers():
            present = {topic["name"]: topic["partitions"] for topic in self._client.describe_topics()}
            settings = self._settings([name for name in topics if name in present])
            broker_settings = self._auto_create()
            access = self._access()
            groups = {group["group_id"]: _group_state(group["group_state"]) for group in self._client.list_groups()}
        declared = dict.fromkeys(topics, _THERE) | dict.fromkeys(broker_settings, "false")
        live = {name: _THERE for name in present if not name.startswith("__")} | broker_settings
        for name, entries in settings.items():
            topic, partitions = topics[name], present[name]
            copies = "/".join(map(str, sorted({len(partition["replica_nodes"]) for partition in partitions})))
            declared |= {f"{name} partitions": str(topic.partitions), f"{name} copies": str(topic.replicas(brokers))}
            live |= {f"{name} partitions": str(len(partitions)), f"{name} copies": copies}
            made = topic.settings(brokers)
            declared |= {f"{name} {key}": value for key, value in made.items()}
            live |= {
                f"{name} {key}": str(entry["value"])
                for key, entry in entries.items()
                if key in made or entry["config_source"] == _SET_ON_TOPIC
            }
        given = {str(entry): _GIVEN for entry in access}
        ours = frozenset(str(entry) for entry in access if _is_ours(entry, topics, wanted))
        consumed = {group: _CONSUMED for topic in topics.values() for group in topic.consumer_groups}
        return {
            "kafka-topics": KafkaPlane(declared, live, frozenset(live)),
            "kafka-access": KafkaPlane({str(entry): _GIVEN for entry in wanted}, given, ours),
            "kafka-groups": KafkaPlane(consumed, groups, frozenset(groups)),
        }

    def topics(self) -> frozenset[str]:
        """Name the topics of the cluster.

        Raises:
            KafkaUnreachableError: the cluster did not answer.
        """
        with _answers():
            return frozenset(topic["name"] for topic in self._client.describe_topics())

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

    def _settings(self, names: list[str]) -> dict[str, dict[str, Any]]:
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        described: dict[str, dict[str, Any]] = self._client.describe_configs(resources, config_filter="all")["topic"]
        return described

    def _broker_problems(self) -> list[str]:
        return [
            f"{name} is {value}, so a misspelt name makes a topic; set it to false and restart the broker"
            for name, value in self._auto_create().items()
            if value != "false"
        ]

    def _auto_create(self) -> dict[str, str]:
        """Ask the running brokers, not their files: a broker that was not restarted still does what it read then."""
        resources = [
            ConfigResource(ConfigResourceType.BROKER, str(broker["broker_id"]), {_AUTO_CREATE: None})
            for broker in self._client.describe_cluster()["brokers"]
        ]
        described = self._client.describe_configs(resources, config_filter="all")["broker"]
        return {
            f"broker {name}: {_AUTO_CREATE}": str(settings[_AUTO_CREATE]["value"])
            for name, settings in sorted(described.items())
        }

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
                entry.principal.removeprefix(_USER),
                entry.operation.name,
                entry.resource_pattern.resource_type.name,
                entry.resource_pattern.resource_name,
                entry.resource_pattern.pattern_type.name,
                entry.permission_type.name,
                entry.host,
            )
            for entry in entries
        }


@contextmanager
def open_administration(connection: KafkaConnection) -> Iterator[KafkaAdministration]:
    """Connect as the cluster's super user.

    Raises:
        KafkaUnreachableError: no broker answered within five seconds, or the credentials were refused.
    """
    with _answers():
        client = KafkaAdminClient(
            **connection.options(), request_timeout_ms=_TIMEOUT_MS, bootstrap_timeout_ms=_TIMEOUT_MS
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


def _group_state(state: str) -> str:
    return "nobody consumes" if state in _EMPTY_STATES else _CONSUMED


def _growth_refused(name: str, partitions: int) -> str:
    return (
        f"{name} has fewer than the declared {partitions} partitions: grown while events are on their way, an order's next "
        "event may be applied before the ones before it; stop the relays, let the groups read to the end, then run "
        "`topics apply --grow`"
    )


def _refused(
    topic: Topic, brokers: int, partitions: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> Iterator[str]:
    if len(partitions) > topic.partitions:
        yield (
            f"{topic.name} has {len(partitions)} partitions, declared are {topic.partitions}: a partition is never removed; "
            "declare what is there"
        )
    replicas = {len(partition["replica_nodes"]) for partition in partitions}
    if replicas != {topic.replicas(brokers)}:
        yield (
            f"{topic.name} has replication factor {'/'.join(map(str, sorted(replicas)))}, declared is {topic.replicas(brokers)} "
            f"for {brokers} brokers: reassign its replicas"
        )
    retention = int(settings["retention.ms"]["value"])
    if retention < 0 or retention > topic.retention_ms:
        yield (
            f"{topic.name} has retention.ms={retention}, declared is {topic.retention_ms}: a retention is never shortened, "
            "which would delete events; declare what is there, or shorten it by hand first"
        )


def _is_ours(entry: Access, topics: Mapping[str, Topic], wanted: set[Access]) -> bool:
    """Tell whether an undeclared entry concerns the platform; other teams' topics on the same cluster stay as they are."""
    if entry.user in {access.user for access in wanted} or entry.name == "*":
        return True
    names = {"TOPIC": set(topics), "GROUP": {access.name for access in wanted if access.resource == "GROUP"}}
    if entry.resource not in names:
        return True
    if entry.pattern == "PREFIXED":
        return any(name.startswith(entry.name) for name in names[entry.resource])
    return entry.name in names[entry.resource]


def _acl(access: Access) -> Any:
    return ACL(
        principal=f"{_USER}{access.user}",
        host=access.host,
        operation=ACLOperation[access.operation],
        permission_type=ACLPermissionType[access.permission],
        resource_pattern=ResourcePattern(
            ResourceType[access.resource], access.name, ACLResourcePatternType[access.pattern]
        ),
    )


def _filter(access: Access) -> Any:
    """Match exactly this entry: one that denies may stand beside a declared one that allows."""
    return ACLFilter(
        principal=f"{_USER}{access.user}",
        host=access.host,
        operation=ACLOperation[access.operation],
        permission_type=ACLPermissionType[access.permission],
        resource_pattern=ResourcePatternFilter(
            ResourceType[access.resource], access.name, ACLResourcePatternType[access.pattern]
        ),
    )
