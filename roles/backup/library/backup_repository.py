#!/usr/bin/python
"""Ansible module: hold a host of pgBackRest to what it is for, and the repository to having at least one backup."""

from __future__ import annotations

import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: backup_repository
short_description: Hold a host of pgBackRest to what it is for
description:
  - Waits until the host's server answers.
  - On the repository's host it then makes the stanza where there is none, sees a segment of write-ahead log arrive, and makes the first backup.
options:
  stanza: {description: Name of the cluster in the repository., type: str, required: true}
  address: {description: Address of the host's own server., type: str, required: true}
  port: {description: Its port., type: int, required: true}
  repository: {description: Whether this host keeps the backups., type: bool, required: true}
  timeout: {description: Seconds until the servers answer and log arrives., type: int, default: 60}
attributes:
  check_mode: {support: none}
"""

EXAMPLES = r"""
- name: Hold the repository to what it is for
  backup_repository: {stanza: cpq, address: 10.0.0.9, port: 8432, repository: true}
"""

RETURN = r"""
made: {description: What was made, of V(stanza) and V(backup)., returned: always, type: list}
"""

USER = ["runuser", "-u", "pgbackrest", "--", "pgbackrest"]
PAUSE_SECONDS = 0.5
# As `info` numbers it.
MISSING_STANZA = 1


def attempt(module: AnsibleModule, command: list[str], seconds: float, claim: str) -> str:
    """Run the command until it succeeds and return what it said; fail with its last words after the time."""
    deadline = time.monotonic() + seconds
    while True:
        code, out, err = module.run_command(command, cwd="/")
        if code == 0:
            return str(out)
        if time.monotonic() > deadline:
            module.fail_json(msg=f"not within {seconds:g} s: {claim}: {(out + err).strip()[-1500:]}")
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Wait, look, and make what is missing."""
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "repository": {"type": "bool", "required": True},
            "timeout": {"type": "int", "default": 60},
        }
    )
    parameters: dict[str, Any] = module.params
    seconds, stanza = parameters["timeout"], f"--stanza={parameters['stanza']}"
    ping = ["pgbackrest", f"--tls-server-port={parameters['port']}", "server-ping", parameters["address"]]
    attempt(module, ping, seconds, "its own server answers")
    made: list[str] = []
    if parameters["repository"]:

        def known() -> dict[str, Any]:
            told = attempt(
                module,
                [*USER, stanza, "--output=json", "--log-level-console=off", "info"],
                seconds,
                "the repository can be read",
            )
            return dict(json.loads(told)[0])

        if known()["status"]["code"] == MISSING_STANZA:
            attempt(module, [*USER, stanza, "stanza-create"], seconds, "the database is known to the repository")
            made.append("stanza")
        attempt(module, [*USER, stanza, f"--archive-timeout={seconds}", "check"], seconds, "write-ahead log arrives")
        if not known().get("backup"):
            code, out, err = module.run_command([*USER, stanza, "--type=full", "backup"], cwd="/")
            if code:
                module.fail_json(msg=f"the first backup failed: {(out + err).strip()[-1500:]}")
            made.append("backup")
    module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
