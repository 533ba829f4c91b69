#!/usr/bin/python
"""Ansible module: restart one Zeebe broker when every partition keeps a majority without it, and wait until all replicas are back.

Called for one broker after the other (`throttle: 1`). Each call asks anew, so a broker that does not come back stops those that
would follow it.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zeebe_gateway import GatewayError, Topology, call, topology

DOCUMENTATION = r"""
module: zeebe_restart
short_description: Restart a broker when no partition loses its majority by it
options:
  host: {description: Address of this broker's own gateway., type: str, required: true}
  port: {description: Port of the gateway; it speaks no TLS there., type: int, required: true}
  node_id: {description: Number of this broker., type: int, required: true}
  brokers: {description: Number of brokers of the cluster., type: int, required: true}
  partitions: {description: Number of partitions., type: int, required: true}
  replication_factor: {description: Copies of each partition., type: int, required: true}
  unit: {description: The systemd unit., type: str, required: true}
  timeout: {description: Seconds until every partition must have all of its replicas again., type: int, default: 180}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Restart the broker
  zeebe_restart: {host: 10.0.0.1, port: 26500, node_id: 0, brokers: 3, partitions: 3, replication_factor: 3, unit: zeebe.service}
  throttle: 1
"""

RETURN = r"""
seconds: {description: How long it took until no partition missed a replica., returned: success, type: float}
"""

RETRY_SECONDS = 0.5


def unsafe_partitions(node: int, seen: Topology, partitions: int, replication_factor: int) -> list[str]:
    """Name each partition that would be left with less than a majority of healthy replicas."""
    majority = replication_factor // 2 + 1
    problems = []
    for partition in range(1, partitions + 1):
        others = sum(partition in replicas for other, replicas in seen.replicas.items() if other != node)
        if others < majority:
            problems.append(
                f"partition {partition} would keep {others} of {majority} healthy replicas that make a majority"
            )
    return problems


def missing(seen: Topology, brokers: int, partitions: int, replication_factor: int) -> str:
    """Say what is not whole yet; empty when all is."""
    if len(seen.replicas) != brokers:
        return f"{len(seen.replicas)} of {brokers} brokers are there"
    for partition in range(1, partitions + 1):
        there = sum(partition in replicas for replicas in seen.replicas.values())
        if partition not in seen.leaders or there < replication_factor:
            leader = seen.leaders.get(partition, "none")
            return f"partition {partition} has {there} of {replication_factor} healthy replicas, leader {leader}"
    return ""


def main() -> None:
    """Ask, restart, wait."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "node_id": {"type": "int", "required": True},
            "brokers": {"type": "int", "required": True},
            "partitions": {"type": "int", "required": True},
            "replication_factor": {"type": "int", "required": True},
            "unit": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    host, port, node, unit = (parameters[name] for name in ("host", "port", "node_id", "unit"))
    partitions, replication_factor = parameters["partitions"], parameters["replication_factor"]
    code, _, _ = module.run_command(["systemctl", "is-active", "--quiet", unit])
    if code != 0:
        module.fail_json(msg=f"broker {node} is not restarted: {unit} does not run; start it by playbooks/zeebe.yml")
    try:
        problems = unsafe_partitions(node, topology(call(host, port)), partitions, replication_factor)
    except (OSError, GatewayError) as reason:
        problems = [f"its gateway does not answer: {reason}"]
    # A broker that is alone has nobody who could go on without it.
    if problems and parameters["brokers"] > 1:
        module.fail_json(msg=f"broker {node} is not restarted: {', '.join(problems)}")
    if module.check_mode:
        module.exit_json(changed=True, seconds=0.0)
    began = time.monotonic()
    module.run_command(["systemctl", "restart", unit], check_rc=True)
    while True:
        try:
            lacking = missing(topology(call(host, port)), parameters["brokers"], partitions, replication_factor)
        except (OSError, GatewayError) as reason:
            lacking = str(reason)
        if not lacking:
            module.exit_json(changed=True, seconds=round(time.monotonic() - began, 1))
        if time.monotonic() > began + parameters["timeout"]:
            module.fail_json(
                msg=f"broker {node} was restarted, and after {parameters['timeout']} s the cluster is not whole: {lacking}"
            )
        time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main()
