"""Ansible module: make a cluster of a Debian PostgreSQL server, whole or not at all.

A kill in the middle of initdb leaves a data directory that looks like one. So a mark is there while a cluster is being made:
who finds it waits for a maker that is still at work, removes what is half made, and makes it anew. A cluster without the mark
is never touched.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: postgresql_cluster
short_description: Make a cluster of a Debian PostgreSQL server
description:
  - Uses Debian's C(pg_createcluster), since it also makes the directories under /etc and /var/log that the unit expects.
  - The collation is PostgreSQL's own, so that an upgrade of the C library cannot break an index.
options:
  version: {description: Major version., type: str, required: true}
  name: {description: Name of the cluster., type: str, required: true}
  port: {description: Port of the server., type: int, required: true}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Make the cluster
  postgresql_cluster: {version: "17", name: cpq, port: 5432}
"""

RETURN = r"""
repaired: {description: Whether half of a cluster was found and made anew., type: bool, returned: always}
"""

DATA = Path("/var/lib/postgresql")
SETTINGS = Path("/etc/postgresql")


def main() -> None:
    """Look, and make it when it is not there."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    place = Path(parameters["version"], parameters["name"])
    mark = DATA / f".{place.parent}-{place.name}.unfinished"

    def is_whole() -> bool:
        return (DATA / place / "PG_VERSION").exists() and not mark.exists()

    if module.check_mode or is_whole():
        module.exit_json(changed=not is_whole(), repaired=False)
    with Path(f"/run/lock/postgresql-{place.parent}-{place.name}").open("a") as lock:
        # The tool inherits the lock: killed alone, this module leaves it at work, and the next run waits for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole():
            module.exit_json(changed=False, repaired=False)
        repaired = mark.exists()
        if repaired:
            for root in (DATA, SETTINGS):
                shutil.rmtree(root / place, ignore_errors=True)
        mark.touch()
        command = ["pg_createcluster", f"--port={parameters['port']}", "--start-conf=auto", *place.parts]
        options = ["--data-checksums", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        module.run_command([*command, "--", *options], check_rc=True, pass_fds=(lock.fileno(),))
        mark.unlink()
    module.exit_json(changed=True, repaired=repaired)


if __name__ == "__main__":
    main()
