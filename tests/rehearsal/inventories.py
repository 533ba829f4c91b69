"""An inventory that differs from the rehearsed one, and what the edges of its environment say of servers."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.rehearsal import ROOT, Rehearsal

_FIGURES = """python3 -c '
import socket
proxy = socket.socket(socket.AF_UNIX)
proxy.connect("/run/haproxy/admin.sock")
proxy.sendall(b"show stat\\n")
print(proxy.makefile().read())'"""


@dataclass(frozen=True)
class Share:
    """What an edge holds of a server, and how many requests it has sent there."""

    status: str
    requests: int


def altered(rehearsal: Rehearsal, folder: Path, change: Callable[[dict[str, Any]], None]) -> Rehearsal:
    """Write the inventory anew with a change of its hosts and groups; the same hosts, by that inventory.

    Args:
        rehearsal: the environment that is up.
        folder: where the inventory is written.
        change: what is done to the content of `all` in hosts.yml.
    """
    copy = folder / rehearsal.environment
    source, vault = ROOT / "inventories" / rehearsal.environment, "group_vars/all/vault.yml"
    # Where a rehearsal has its vault, only its own processes see it.
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("vault.yml"))
    (copy / vault).symlink_to((source / vault).readlink())
    inventory = yaml.safe_load((copy / "hosts.yml").read_text())["all"]
    change(inventory)
    (copy / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    return Rehearsal(str(copy))


def shares(rehearsal: Rehearsal, backend: str, server: str) -> list[Share]:
    """Ask every edge for a server of a backend."""
    found = []
    for edge in rehearsal.groups["edge"]:
        rows = csv.DictReader(rehearsal.run(edge, _FIGURES).stdout.lstrip("# ").splitlines())
        [row] = [row for row in rows if (row["pxname"], row["svname"]) == (backend, server)]
        found.append(Share(row["status"], int(row["stot"])))
    return found
