#!/usr/bin/python
"""Ansible module: what somebody needs who looks for a fault of this host without being on it, as texts by path."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_identity import problem

DOCUMENTATION = r"""
module: support_facts
short_description: Collect journals, units, settings, versions, disk, memory and packet filter of a host
description: Reads only. What cannot be read is told in its place.
options:
  root: {description: Folder of all units on the host., type: path, required: true}
  identity: {description: Who the host must be; see host_identity., type: dict, required: true}
  minutes: {description: How far back journals are read., type: int, default: 30}
  journal_bytes: {description: How much of each journal is kept at most., type: int, default: 262144}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
files: {description: Texts by path., returned: always, type: dict}
"""

UNITS = (
    *("cpq-oms-*", "postgresql*", "patroni*", "etcd*", "pgbackrest*", "redis-server*", "kafka*", "zeebe*", "haproxy*"),
    *("keepalived*", "prometheus*", "systemd-journal-*", "nftables*"),
)
SETTINGS = Path("/etc/cpq-oms")
PACKAGES = "${Package} ${Version} ${db:Status-Status}\n"
COMMANDS = {
    "status.txt": ("systemctl", "status", "--no-pager", "--lines=0", "--all", *UNITS),
    "failed-units.txt": ("systemctl", "list-units", "--failed", "--no-pager", "--no-legend", "--plain"),
    "timers.txt": ("systemctl", "list-timers", "--all", "--no-pager"),
    "disk.txt": ("df", "--human-readable", "--print-type"),
    "inodes.txt": ("df", "--inodes"),
    "memory.txt": ("free", "--mebi"),
    "nftables.txt": ("nft", "list", "ruleset"),
    "sockets.txt": ("ss", "--listening", "--tcp", "--numeric", "--processes"),
    "addresses.txt": ("ip", "-brief", "address"),
    "kernel.txt": ("uname", "--all"),
    "time.txt": ("timedatectl", "show"),
    "packages.txt": ("dpkg-query", "--show", f"--showformat={PACKAGES}"),
}
SECONDS = 30
# A status of a unit that does not run, and a program that a host does not have, are answers.
NOT_HERE = "not on this host"


def said(*command: str) -> str:
    """Return what a command printed, or why it printed nothing."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, cwd="/", timeout=SECONDS)
    except FileNotFoundError:
        return f"{command[0]}: {NOT_HERE}\n"
    except subprocess.TimeoutExpired:
        return f"{command[0]}: no answer within {SECONDS} s\n"
    return (done.stdout or done.stderr).decode(errors="replace")


def units() -> list[str]:
    """Return the units of the platform and its services that systemd has loaded."""
    shown = said("systemctl", "show", *UNITS, "--all", "--property=Id")
    return sorted({line.removeprefix("Id=") for line in shown.splitlines() if line.startswith("Id=")})


def journal(unit: str, minutes: int, most: int) -> str:
    """Return the end of a unit's journal, from the beginning of a line: half a secret would be masked by nobody."""
    words = ("--no-pager", "--output=short-iso-precise", f"--since=-{minutes}min", f"--unit={unit}")
    text = said("journalctl", *words)
    if len(text) <= most:
        return text
    end = text[-most:].partition("\n")[2]
    return f"[{len(text) - len(end)} characters before this were left out]\n{end}"


def running(root: Path) -> dict[str, Any]:
    """Return which release of each unit is the current one, and the state of the platform's units, as release_facts tells them."""
    found: dict[str, Any] = {"installed": {}, "services": {}}
    for path in sorted(root.glob("*/current/release.json")):
        found["installed"][path.parts[-3]] = json.loads(path.read_text(encoding="utf-8")).get("release_id", "")
    for block in said("systemctl", "show", "cpq-oms-*", "--all", "--property=Id,ActiveState").split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            found["services"][values["Id"]] = {"state": values.get("ActiveState", "")}
    return found


def collected(root: Path, minutes: int, journal_bytes: int) -> dict[str, str]:
    """Return all of it."""
    found = {path: said(*command) for path, command in COMMANDS.items()}
    for unit in units():
        if unit.endswith((".service", ".socket")):
            found[f"journal/{unit}.log"] = journal(unit, minutes, journal_bytes)
        found[f"units/{unit}"] = said("systemctl", "cat", "--no-pager", unit)
    for path in sorted(SETTINGS.glob("*.env")):
        found[f"settings/{path.name}"] = path.read_text(encoding="utf-8", errors="replace")
    found["running.json"] = json.dumps(running(root), indent=1)
    found["releases.txt"] = "".join(f"{path}\n" for path in sorted(root.glob("*/releases/*")))
    found["os-release.txt"] = Path("/etc/os-release").read_text(encoding="utf-8")
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "identity": {"type": "dict", "required": True},
            "minutes": {"type": "int", "default": 30},
            "journal_bytes": {"type": "int", "default": 262144},
        },
        supports_check_mode=True,
    )
    if why := problem(module.params["identity"]):
        module.fail_json(msg=why)
    given = module.params
    module.exit_json(changed=False, files=collected(Path(given["root"]), given["minutes"], given["journal_bytes"]))


if __name__ == "__main__":
    main()
