#!/usr/bin/python
"""Ansible module: what is installed and running of the platform on this host, in one look."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_identity import problem
from ansible.module_utils.proxy_socket import drained, serving
from ansible.module_utils.unit_files import timers

DOCUMENTATION = r"""
module: release_facts
short_description: Read which release each unit of this host has and what runs
options:
  root: {description: Folder of all units on the host., type: path, required: true}
  identity: {description: Who the host must be; see host_identity., type: dict, required: true}
  clock: {description: What the control machine's clock says, in seconds since the epoch., type: float, required: true}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
installed: {description: Release id by unit, of units that have a current release., returned: always, type: dict}
contracts: {description: Files of interfaces by release id, interface and name of what is installed., returned: always, type: dict}
drained: {description: Servers that the proxy of this host sends no new requests to., returned: always, type: list}
serving: {description: Colour whose servers the proxy of this host sends the API's requests to; empty where it knows none., returned: always, type: str}
figures: {description: What the host tells of its certificates and backups; name and labels as in its exporter's files., returned: always, type: dict}
ahead: {description: Seconds that the host's clock is ahead of the given one; what it took to ask is in it., returned: always, type: float}
services: {description: State, main process and the files laid over it (drop_ins), by unit name of systemd., returned: always, type: dict}
"""

# PARTS and DECLARATIONS of app.contracts.compatibility.interfaces, which is not on every host.
INTERFACES = (
    ("topics", "topics/*.yml"),
    ("events", "events/*.schema.json"),
    ("variables", "variables/*.schema.json"),
    ("openapi", "openapi.yml"),
    ("settings", "settings.json"),
    ("job_types", "job_types.yml"),
    ("processes", "processes.yml"),
    ("redis_keys", "redis_keys.yml"),
    ("flags", "feature_flags.yml"),
    ("path", "release_path.yml"),
)
# Where roles leave figures for the host's exporter, and of which there is something to say before a release.
FIGURES = Path("/var/lib/prometheus/node-exporter")
OF_INTEREST = ("cpq_backup_", "cpq_certificate_", "cpq_recovery_", "cpq_restore_drill_")
PROPERTIES = ("Id", "ActiveState", "MainPID", "DropInPaths")


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
    """Return the interfaces of each installed release, each from whichever of its units carries them."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for unit, release_id in installed(root).items():
        for folder in root.glob(f"{unit}/current/lib/python3*/site-packages/app/contracts"):
            for kind, pattern in INTERFACES:
                files = {path.name: path.read_text(encoding="utf-8") for path in folder.glob(pattern)}
                if release_id and files:
                    found.setdefault(release_id, {}).setdefault(kind, {}).update(files)
    return {release_id: kinds for release_id, kinds in found.items() if {"topics", "events"} <= set(kinds)}


def services() -> dict[str, dict[str, Any]]:
    """Return every unit of ours that systemd has loaded, and every timer."""
    command = ["systemctl", "show", "cpq-oms-*", *timers(), "--all", f"--property={','.join(PROPERTIES)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, dict[str, Any]] = {}
    for block in done.stdout.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            found[values["Id"]] = {
                "state": values.get("ActiveState", ""),
                "main_pid": values.get("MainPID", ""),
                # What Debian itself lays over every unit is no alteration.
                "drop_ins": [
                    path for path in values.get("DropInPaths", "").split() if not path.startswith("/usr/lib/")
                ],
            }
    return found


def figures(folder: Path = FIGURES) -> dict[str, float]:
    """Return the figures of interest that roles left for the exporter."""
    lines = [line for path in sorted(folder.glob("*.prom")) for line in path.read_text().splitlines()]
    told = [line.rpartition(" ")[::2] for line in lines if line.startswith(OF_INTEREST)]
    return {name: float(value) for name, value in told}


def left_drained() -> list[str]:
    """Return the servers that a release took out of the proxy of this host and, being killed, never gave back."""
    try:
        return sorted({server for _, server in drained()})
    except OSError:
        # Nothing here is a proxy, or it does not run: then it drains nobody.
        return []


def served() -> str:
    """Return the colour that the proxy of this host has the API's requests served by."""
    try:
        return str(serving())
    except OSError:
        return ""


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "identity": {"type": "dict", "required": True},
            "clock": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    ahead = round(time.time() - module.params["clock"], 3)
    if why := problem(module.params["identity"]):
        module.fail_json(msg=why)
    root = Path(module.params["root"])
    result: dict[str, Any] = {
        "installed": installed(root),
        "contracts": contracts(root),
        "figures": figures(),
        "ahead": ahead,
        "services": services(),
        "drained": left_drained(),
        "serving": served(),
    }
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
