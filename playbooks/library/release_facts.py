#!/usr/bin/python
"""Ansible module: what is installed and running of the platform on this host, in one look."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_facts
short_description: Read which release each unit of this host has and what runs
options:
  root: {description: Folder of all units on the host., type: path, required: true}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
installed: {description: Release id by unit, of units that have a current release., returned: always, type: dict}
contracts: {description: Topics and event schemas by release id of what is installed., returned: always, type: dict}
services: {description: State and main process by unit name of systemd., returned: always, type: dict}
"""

PROPERTIES = ("Id", "ActiveState", "MainPID")


def installed(root: Path) -> dict[str, str]:
    """Return the current release of each unit."""
    found: dict[str, str] = {}
    for current in sorted(root.glob("*/current")):
        try:
            found[current.parent.name] = json.loads((current / "release.json").read_text(encoding="utf-8"))[
                "release_id"
            ]
        except (OSError, ValueError, KeyError):
            # Not an installed release: the role that installs finds out why and repairs it.
            found[current.parent.name] = ""
    return found


def contracts(root: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return topic files and event schemas of each installed release, from whichever of its units carries them."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for unit, release_id in installed(root).items():
        if not release_id or release_id in found:
            continue
        folders = list(root.glob(f"{unit}/current/lib/python3*/site-packages/app/contracts"))
        files = {
            kind: {path.name: path.read_text(encoding="utf-8") for folder in folders for path in folder.glob(pattern)}
            for kind, pattern in (("topics", "topics/*.yml"), ("events", "events/*.schema.json"))
        }
        if all(files.values()):
            found[release_id] = files
    return found


def services() -> dict[str, dict[str, str]]:
    """Return every unit of ours that systemd has loaded."""
    command = ["systemctl", "show", "cpq-oms-*", "--all", f"--property={','.join(PROPERTIES)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, dict[str, str]] = {}
    for block in done.stdout.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            found[values["Id"]] = {"state": values.get("ActiveState", ""), "main_pid": values.get("MainPID", "")}
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"root": {"type": "path", "required": True}}, supports_check_mode=True)
    root = Path(module.params["root"])
    result: dict[str, Any] = {"installed": installed(root), "contracts": contracts(root), "services": services()}
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
