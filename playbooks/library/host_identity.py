"""Ansible module: stop where a host is not the one that the inventory takes it for."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_identity import problem, read

DOCUMENTATION = r"""
module: host_identity
short_description: Hold what a host says of itself, and what its certificates say, against the inventory
description:
  - Changes nothing. A host that says nothing yet may become anything.
options:
  environment: {description: Name of the environment., type: str, required: true}
  host: {description: The host's name in the inventory., type: str, required: true}
  tiers: {description: Its tiers., type: list, elements: str, required: true}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Stop where this is another host
  host_identity: {environment: staging, host: api-1, tiers: [api]}
"""

RETURN = r"""
identity: {description: What the host says of itself; nothing where it was never provisioned., returned: success, type: dict}
"""


def main() -> None:
    """Compare."""
    module = AnsibleModule(
        argument_spec={
            "environment": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "tiers": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    if why := problem(module.params):
        module.fail_json(msg=why)
    module.exit_json(changed=False, identity=read() or {})


if __name__ == "__main__":
    main()
