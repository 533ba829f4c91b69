"""Ansible module: find ports that somebody else listens on, before a service that needs them is installed.

A service that finds its port taken fails long after the first change, and in its own words. Here it is one line, with the
process that has the port. Who listens is read from the kernel, so nothing needs to be installed on the host.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: port_owner
short_description: Check that ports are free or belong to the unit that should have them
description:
  - Changes nothing. Fails with one line for each port that a process outside its unit listens on.
options:
  services:
    description: Port and the pattern of the unit that may listen on it.
    type: list
    elements: dict
    default: []
  units:
    description: The deployables of this host as in app/contracts/units.yml; their ports may be had by C(cpq-oms-<name>*.service).
    type: dict
    default: {}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Find ports that somebody else has
  port_owner:
    services: [{port: 5432, unit: "postgresql@*.service"}]
"""

RETURN = r"""
listening:
  description: Unit that listens, by port, for those of the ports that are in use.
  returned: success
  type: dict
"""

LISTEN = "0A"


def wanted(services: list[dict[str, Any]], units: Mapping[str, Mapping[str, Any]]) -> dict[int, str]:
    """Return the pattern of the rightful unit by port."""
    ports = {int(service["port"]): str(service["unit"]) for service in services}
    for name, unit in units.items():
        for part in (unit, *(unit.get("instances") or {}).values()):
            ports.update(
                {int(part[key]): f"cpq-oms-{name}*.service" for key in ("http_port", "metrics_port") if key in part}
            )
    return ports


def listeners(proc: Path) -> dict[str, int]:
    """Return the port of every listening TCP socket by the socket's inode."""
    found = {}
    for table in ("net/tcp", "net/tcp6"):
        path = proc / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == LISTEN:
                found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found


def owners(proc: Path, sockets: Mapping[str, int]) -> dict[int, list[Path]]:
    """Return the processes that hold each listening socket, by port."""
    found: dict[int, list[Path]] = {}
    for process in proc.iterdir():
        # systemd keeps listening sockets for the units they belong to.
        if not process.name.isdigit() or process.name == "1":
            continue
        targets = set(_targets(process))
        for inode, port in sockets.items():
            if f"socket:[{inode}]" in targets:
                found.setdefault(port, []).append(process)
    return found


def _targets(process: Path) -> Iterator[str]:
    """What a process has open. Descriptors, and processes, come and go while they are read: the others count all the same."""
    try:
        descriptors = [*(process / "fd").iterdir()]
    except OSError:
        return
    for descriptor in descriptors:
        with suppress(OSError):
            yield descriptor.readlink().name


def unit_of(process: Path) -> str:
    """Return the innermost systemd unit of a process."""
    parts = (process / "cgroup").read_text().strip().splitlines()[-1].rpartition(":")[2].split("/")
    return next((part for part in reversed(parts) if part.endswith((".service", ".scope", ".socket"))), "no unit")


def main() -> None:
    """Compare who listens with who may."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "default": []},
            "units": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    proc = Path("/proc")
    ports = wanted(module.params["services"], module.params["units"])
    sockets = {inode: port for inode, port in listeners(proc).items() if port in ports}
    listening: dict[int, str] = {}
    problems = []
    found = owners(proc, sockets) if sockets else {}
    for port in sorted(set(sockets.values())):
        if port not in found:
            problems.append(f"port {port} is taken by the kernel or by a process that has ended since; run this again")
        for process in found.get(port, ()):
            unit = unit_of(process)
            listening[port] = unit
            if not fnmatch.fnmatch(unit, ports[port]):
                name = (process / "comm").read_text().strip()
                problems.append(
                    f"port {port} is taken by {name} (pid {process.name}, {unit}) and {ports[port]} needs it; stop that process"
                )
                break
    if problems:
        module.fail_json(msg="; ".join(problems))
    module.exit_json(changed=False, listening=listening)


if __name__ == "__main__":
    main()
