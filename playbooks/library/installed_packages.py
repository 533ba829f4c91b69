#!/usr/bin/python
"""Ansible module: list the installed packages as the fact `packages`, once for every role of a run.

It asks dpkg and takes a tenth of a second; the general module opens apt's whole cache to learn the same.
"""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: installed_packages
short_description: List the installed Debian packages as the fact C(packages)
options: {}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: List the installed packages
  installed_packages:
"""

RETURN = r"""
ansible_facts:
  description: C(packages) has the version of each installed package by name.
  returned: always
  type: dict
"""

FORMAT = "${db:Status-Status} ${Package} ${Version}\n"


def main() -> None:
    """Ask dpkg."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    _, listing, _ = module.run_command(["dpkg-query", "--show", f"--showformat={FORMAT}"], check_rc=True)
    entries = (line.split(" ", 2) for line in listing.splitlines())
    packages = {name: version for status, name, version in entries if status == "installed"}
    module.exit_json(changed=False, ansible_facts={"packages": packages})


if __name__ == "__main__":
    main()
