"""What must hold before a machine may carry nspawn hosts.

Used twice: by the module nspawn_hosts before it changes anything, and by bootstrap.py before it installs anything.
So it needs nothing but the standard library, and every finding is one line: the thing, then the remedy.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

ENVIRONMENT_NAME = re.compile(r"^[a-z][a-z0-9]{0,10}$")
HOST_NAME = re.compile(r"^[a-z][a-z0-9-]{0,40}$")
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh-keygen": "openssh-client",
}
GIBIBYTE = 1024**3


def bridge_name(environment: str) -> str:
    """Return the environment's bridge; eleven characters of name keep it within the kernel's fifteen."""
    return f"cpq-{environment}"


def check_root() -> list[str]:
    """Mounts, bridges and namespaces need root."""
    if os.geteuid() != 0:
        return ["not root: hosts need mounts, bridges and namespaces; run the same command as root (sudo make ...)"]
    return []


def check_tools() -> list[str]:
    """Find every program that brings up a host."""
    missing = {tool: package for tool, package in TOOLS.items() if shutil.which(tool, path=_search_path()) is None}
    if not missing:
        return []
    return [f"{', '.join(missing)} not found: apt-get install {' '.join(missing.values())}"]


def check_kernel(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> list[str]:
    """Find the kernel features without which systemd cannot be PID 1 in a namespace of ours."""
    problems = []
    if "overlay" not in (proc / "filesystems").read_text().split():
        problems.append(
            "no nspawn hosts here: the kernel has no overlay file system; load it (modprobe overlay) or use another machine"
        )
    if not (cgroups / "cgroup.controllers").exists() and not (cgroups / "unified" / "cgroup.procs").exists():
        problems.append(
            f"no nspawn hosts here: no cgroup v2 below {cgroups}; mount it there (unified or hybrid) or use another machine"
        )
    elif not os.access(cgroups, os.W_OK):
        problems.append(
            f"no nspawn hosts here: {cgroups} is read-only; run on a machine, not in an unprivileged container"
        )
    if not _may_mount(proc):
        problems.append(
            "no nspawn hosts here: CAP_SYS_ADMIN is missing; run on a machine, not in an unprivileged container"
        )
    return problems


def check_disk(directory: Path, gibibytes: float, purpose: str) -> list[str]:
    """Find out whether the file system that will hold a directory has room and is of a kind an overlay can use."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / GIBIBYTE
    if free < gibibytes:
        return [
            f"disk full: {directory} has {free:.1f} GiB free, {purpose} take {gibibytes:g}; free some space or move it"
        ]
    return []


def check_plan(environment: str, subnet: str, addresses: dict[str, str]) -> list[str]:
    """Judge the inventory alone: names, addresses, and that they fit each other."""
    problems = []
    if not ENVIRONMENT_NAME.match(environment):
        problems.append(f"cpq_env '{environment}': use 1 to 11 lower-case letters and digits, a letter first")
    try:
        network = ipaddress.ip_network(subnet)
    except ValueError as error:
        return [*problems, f"cpq_subnet '{subnet}': {error}; write it like 10.56.1.0/24"]
    gateway = next(network.hosts())
    seen: dict[str, str] = {}
    for name, address in sorted(addresses.items()):
        if not HOST_NAME.match(name):
            problems.append(f"host '{name}': use lower-case letters, digits and '-', a letter first")
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            problems.append(f"host {name}: ansible_host '{address}' is no IP address; give it one inside {subnet}")
            continue
        if parsed not in network or parsed in (network.network_address, network.broadcast_address, gateway):
            problems.append(
                f"host {name}: ansible_host {address} is not a free address of {subnet} ({gateway} is the gateway)"
            )
        if address in seen:
            problems.append(f"hosts {seen[address]} and {name} both have the address {address}; give each its own")
        seen[address] = name
    return problems


def check_subnet_free(subnet: str, bridge: str) -> list[str]:
    """Find another interface or route that already owns part of the subnet; the environment's own bridge may."""
    network = ipaddress.ip_network(subnet)
    for interface in _ip_json("address"):
        if interface.get("ifname") == bridge:
            continue
        for entry in interface.get("addr_info", []):
            if entry.get("family") == "inet":
                taken = ipaddress.ip_network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
                if taken.overlaps(network):
                    return [
                        f"subnet {subnet} is taken: {interface['ifname']} has {taken}; choose another cpq_subnet or remove that address"
                    ]
    for route in _ip_json("route"):
        if route.get("dst") == "default" or route.get("dev") == bridge:
            continue
        taken = ipaddress.ip_network(route["dst"], strict=False)
        if taken.version == network.version and taken.overlaps(network):
            return [
                f"subnet {subnet} is taken: a route to {taken} by {route.get('dev', 'nothing')}; choose another cpq_subnet or remove that route"
            ]
    return []


def check_images(cache: Path) -> list[str]:
    """Find images that are there by name and not usable: made by another hand, or damaged after they were made."""
    if not cache.exists():
        return []
    if not cache.is_dir() or not os.access(cache, os.R_OK | os.W_OK | os.X_OK):
        return [f"cache {cache} is no directory that can be read and written; remove it and run again"]
    images = cache / "images"
    if not images.exists():
        return []
    problems = []
    for image in sorted(images.iterdir()):
        if not image.name.startswith("."):
            problems += check_image(image)
    return problems


def check_image(image: Path) -> list[str]:
    """Judge one finished image by its stamp: it names the image and the package database it was made with."""
    remedy = f"remove it (rm -rf {image}) and run again, it is built anew; hosts made from it need a rebuild"
    try:
        stamp = json.loads((image / "image.json").read_text())
        size = (image / "root/var/lib/dpkg/status").stat().st_size
    except (OSError, ValueError) as error:
        return [f"broken cache: image {image} cannot be read ({error}); {remedy}"]
    if stamp.get("image") != image.name or stamp.get("dpkg_status_bytes") != size:
        return [f"broken cache: image {image} is not what its image.json says; {remedy}"]
    if not (image / "root/usr/lib/systemd/systemd").is_file():
        return [f"broken cache: image {image} has no systemd; {remedy}"]
    return []


def _ip_json(what: str) -> list[dict[str, Any]]:
    found = subprocess.run(
        ["ip", "-json", what, "show"], check=True, capture_output=True, text=True, env={"PATH": _search_path()}
    )
    listed: list[dict[str, Any]] = json.loads(found.stdout or "[]")
    return listed


def _may_mount(proc: Path) -> bool:
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)$", (proc / "self/status").read_text(), re.MULTILINE)
    return capabilities is not None and bool(int(capabilities.group(1), 16) >> 21 & 1)


def _search_path() -> str:
    # nft and ip live in sbin, which sudo and cron may leave out.
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
