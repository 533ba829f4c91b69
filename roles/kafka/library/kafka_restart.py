#!/usr/bin/python
"""Ansible module: restart one broker of a cluster when every partition can spare it, and wait until nothing is missing again.

Called for one broker after the other (`throttle: 1`). Each call asks all nodes anew, so a broker that does not come back stops
those that would follow it: the module is the guard, not the order of the hosts.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_protocol import BrokerError, Connection, broker_session, compact, uvarint

DOCUMENTATION = r"""
module: kafka_restart
short_description: Restart a broker when each partition keeps enough replicas in sync without it
options:
  node_id: {description: The node on this host., type: int, required: true}
  nodes:
    description: Internal listener of every node of the cluster by its number; each is broker and controller.
    type: dict
    required: true
  broker_password:
    description: Password of the brokers' own identity on the internal listeners.
    type: str
    required: true
  ca:
    description: File with the certificates that the brokers' own must come from; without it the listeners speak no TLS.
    type: path
  unit: {description: The systemd unit., type: str, required: true}
  leader:
    description: >-
      Restart the node also when it leads the controllers. Off, a leader is left alone and the result has C(deferred), so that
      the caller comes back to it after all others: each change of leader stops the cluster's changes for a moment.
    type: bool
    required: true
  timeout:
    description: Seconds until every partition must have all of its replicas in sync again.
    type: int
    default: 120
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Restart the broker
  kafka_restart:
    node_id: 1
    nodes: {1: "10.0.0.1:9094", 2: "10.0.0.2:9094", 3: "10.0.0.3:9094"}
    broker_password: "{{ kafka_broker_password }}"
    unit: kafka.service
    leader: false
  throttle: 1
"""

RETURN = r"""
deferred: {description: Whether the node leads the controllers and was left alone., returned: success, type: bool}
seconds: {description: How long it took until no partition missed a replica., returned: success, type: float}
"""

METADATA, DESCRIBE_CONFIGS, DESCRIBE_QUORUM = 3, 32, 55
TOPIC = 2
ALL = struct.pack(">i", -1)
QUORUM_TOPIC = b"__cluster_metadata"
RETRY_SECONDS = 0.5
SHOWN = 5


class UnsafeError(Exception):
    """The broker must not stop now; the message says what would break."""


@dataclass(frozen=True)
class Partition:
    """A partition as one node sees it."""

    name: str
    topic: str
    replicas: frozenset[int]
    in_sync: frozenset[int]


@dataclass(frozen=True)
class View:
    """What one node says of the cluster."""

    brokers: frozenset[int]
    partitions: Sequence[Partition]


def describe(connection: Connection) -> View:
    """Ask a node for the brokers and for the replicas of every partition."""
    response = connection.call(METADATA, 5, ALL + b"\0", flexible=False)
    response.int32()
    brokers = set()
    for _ in range(response.int32()):
        brokers.add(response.int32())
        response.string()
        response.int32()
        response.string()
    response.string()
    response.int32()
    partitions = []
    for _ in range(response.int32()):
        response.int16()
        topic = response.string()
        response.int8()
        for _ in range(response.int32()):
            response.int16()
            index = response.int32()
            response.int32()
            replicas, in_sync = response.int32s(), response.int32s()
            response.int32s()
            partitions.append(Partition(f"{topic}-{index}", topic, frozenset(replicas), frozenset(in_sync)))
    return View(frozenset(brokers), partitions)


def minima(connection: Connection, topics: Sequence[str]) -> dict[str, int]:
    """Ask for `min.insync.replicas` of each topic."""
    name = b"min.insync.replicas"
    keys = struct.pack(">ih", 1, len(name)) + name
    body = struct.pack(">i", len(topics))
    for topic in topics:
        body += struct.pack(">bh", TOPIC, len(topic)) + topic.encode() + keys
    response = connection.call(DESCRIBE_CONFIGS, 1, body + b"\0", flexible=False)
    response.int32()
    found = {}
    for _ in range(response.int32()):
        error, message = response.int16(), response.string()
        response.int8()
        topic = response.string()
        if error:
            raise BrokerError(f"settings of {topic}: error {error} {message}")
        for _ in range(response.int32()):
            response.string()
            found[topic] = int(response.string())
            response.take(3)
            for _ in range(response.int32()):
                response.string()
                response.string()
                response.int8()
    return found


def leader_of_controllers(connection: Connection) -> int:
    """Ask which node leads the controllers; -1 while none does."""
    body = uvarint(2) + compact(QUORUM_TOPIC) + uvarint(2) + struct.pack(">i", 0) + b"\0\0\0"
    response = connection.call(DESCRIBE_QUORUM, 0, body, flexible=True)
    if error := response.int16():
        raise BrokerError(f"describe quorum: error {error}")
    for _ in range(response.uvarint() - 1):
        response.compact()
        for _ in range(response.uvarint() - 1):
            response.int32()
            error, leader = response.int16(), response.int32()
            return -1 if error else leader
    raise BrokerError("describe quorum: no answer for the metadata partition")


def unsafe_partitions(node: int, view: View, required: Mapping[str, int]) -> list[str]:
    """Name each partition of the node that would have fewer replicas in sync than its topic requires."""
    return [
        f"{partition.name} would keep {len(partition.in_sync - {node})} of {required[partition.topic]} required replicas in sync"
        for partition in view.partitions
        if node in partition.replicas and len(partition.in_sync - {node}) < required[partition.topic]
    ]


def under_replicated(view: View) -> list[str]:
    """Name each partition with a replica that is not in sync."""
    return [partition.name for partition in view.partitions if partition.replicas - partition.in_sync]


def shown(names: Sequence[str]) -> str:
    """The first of some names, and how many there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@dataclass(frozen=True)
class Cluster:
    """The nodes, and which of them is this host's."""

    node: int
    nodes: Mapping[int, str]
    password: str
    ca: str | None

    def _session(self, node: int) -> Connection:
        return broker_session(self.nodes[node], self.password, self.ca)

    def check(self) -> bool:
        """Ask every other node whether it can do without this one; return whether this one leads the controllers.

        Raises:
            UnsafeError: one of them does not answer, or a partition cannot spare the broker.
        """
        leaders = set()
        for other in self.nodes.keys() - {self.node}:
            try:
                with self._session(other) as connection:
                    view = describe(connection)
                    required = minima(connection, sorted({partition.topic for partition in view.partitions}))
                    leaders.add(leader_of_controllers(connection))
            except (OSError, BrokerError) as reason:
                raise UnsafeError(f"node {other} at {self.nodes[other]} does not answer: {reason}") from reason
            if problems := unsafe_partitions(self.node, view, required):
                raise UnsafeError(shown(problems))
        return self.node in leaders

    def missing(self) -> str:
        """Say what is not whole yet, by the word of every node; empty when all is."""
        for node in self.nodes:
            try:
                with self._session(node) as connection:
                    view = describe(connection)
            except (OSError, BrokerError) as reason:
                return f"node {node} does not answer: {reason}"
            if absent := self.nodes.keys() - view.brokers:
                return f"node {node} does not see {', '.join(map(str, sorted(absent)))}"
            if names := under_replicated(view):
                return f"{len(names)} partitions miss a replica: {shown(names)}"
        return ""


def main() -> None:
    """Ask, restart, wait."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "int", "required": True},
            "nodes": {"type": "dict", "required": True},
            "broker_password": {"type": "str", "required": True, "no_log": True},
            "ca": {"type": "path"},
            "unit": {"type": "str", "required": True},
            "leader": {"type": "bool", "required": True},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    nodes = {int(number): address for number, address in parameters["nodes"].items()}
    node = parameters["node_id"]
    cluster = Cluster(node, nodes, parameters["broker_password"], parameters["ca"])
    code, _, _ = module.run_command(["systemctl", "is-active", "--quiet", parameters["unit"]])
    if code != 0:
        module.fail_json(
            msg=f"node {node} is not restarted: {parameters['unit']} does not run; start it by playbooks/kafka.yml"
        )
    try:
        is_leader = cluster.check()
    except UnsafeError as reason:
        module.fail_json(msg=f"node {node} is not restarted: {reason}")
    if is_leader and not parameters["leader"]:
        module.exit_json(changed=False, deferred=True, seconds=0.0)
    if module.check_mode:
        module.exit_json(changed=True, deferred=False, seconds=0.0)
    began = time.monotonic()
    module.run_command(["systemctl", "restart", parameters["unit"]], check_rc=True)
    while missing := cluster.missing():
        if time.monotonic() > began + parameters["timeout"]:
            module.fail_json(
                msg=f"node {node} was restarted, and after {parameters['timeout']} s the cluster is not whole: {missing}"
            )
        time.sleep(RETRY_SECONDS)
    module.exit_json(changed=True, deferred=False, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    main()
