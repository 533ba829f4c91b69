#!/usr/bin/python
"""Ansible module: wait until a Zeebe gateway names a healthy leader for every partition.

A port that accepts connections says nothing: the gateway listens before any partition can take a command.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zeebe_gateway import GatewayError, call, topology

DOCUMENTATION = r"""
module: zeebe_topology
short_description: Wait until every partition has a healthy leader
options:
  host: {description: Address of the gateway., type: str, required: true}
  port: {description: Port of the gateway., type: int, required: true}
  partitions: {description: Number of partitions the cluster must have., type: int, required: true}
  brokers: {description: Number of brokers the cluster must have., type: int, required: true}
  tls:
    description: C(certificate), C(key) and C(ca), where the gateway speaks TLS and wants a client certificate.
    type: dict
  timeout: {description: Seconds to wait., type: int, default: 90}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Wait for a leader of every partition
  zeebe_topology: {host: 10.0.0.1, port: 26500, partitions: 1, brokers: 1}
"""

RETURN = r"""
leaders: {description: Node of the leader by partition., returned: always, type: dict}
version: {description: Version of the gateway., returned: always, type: str}
"""

RETRY_SECONDS = 0.25


def main() -> None:
    """Ask until the answer is the wanted one."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "partitions": {"type": "int", "required": True},
            "brokers": {"type": "int", "required": True},
            "tls": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    host, port = parameters["host"], parameters["port"]
    wanted = (parameters["brokers"], parameters["partitions"], parameters["partitions"])
    deadline = time.monotonic() + parameters["timeout"]
    while True:
        try:
            seen = topology(call(host, port, parameters["tls"]))
            if (len(seen.replicas), seen.partitions, len(seen.leaders)) == wanted:
                module.exit_json(changed=False, leaders=dict(seen.leaders), version=seen.version)
            reason = f"{len(seen.replicas)} brokers, {seen.partitions} partitions, leaders {dict(seen.leaders)}"
        except (OSError, GatewayError) as problem:
            reason = str(problem)
        if module.check_mode:
            # Nothing was started, so there is nothing to wait for.
            module.exit_json(changed=False, leaders={}, version="")
        if time.monotonic() > deadline:
            expected = f"{wanted[0]} brokers and a healthy leader for each of {wanted[1]} partitions"
            module.fail_json(msg=f"Zeebe at {host}:{port} does not have {expected}: {reason}")
        time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main()
