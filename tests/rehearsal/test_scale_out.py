"""A host is added to the API behind the edges while orders go on: the bottleneck is named, no request fails, and the host gets its share."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.rehearsal import ROOT, Rehearsal

NAME = "api-3"
# Edges find a host healthy within seconds.
SHARE_SECONDS = 5
FIGURES = """python3 -c '
import socket
proxy = socket.socket(socket.AF_UNIX)
proxy.connect("/run/haproxy/admin.sock")
proxy.sendall(b"show stat\\n")
print(proxy.makefile().read())'"""


@pytest.fixture
def grown(rehearsal: Rehearsal, tmp_path: Path) -> Iterator[Rehearsal]:
    """Give an inventory that names one more host of the API, which has its power and nothing else; leave the environment as it was."""
    folder = tmp_path / rehearsal.environment
    # The vault of machines that exist elsewhere is not here.
    shutil.copytree(ROOT / "inventories" / rehearsal.environment, folder, ignore_dangling_symlinks=True)
    inventory = yaml.safe_load((folder / "hosts.yml").read_text())["all"]
    last = max(rehearsal.groups["api"], key=lambda host: int(rehearsal.hosts[host].rpartition(".")[2]))
    network, _, number = rehearsal.hosts[last].rpartition(".")
    inventory["children"]["api"]["hosts"][NAME] = {}
    inventory["hosts"][NAME] = {"ansible_host": f"{network}.{int(number) + 1}"}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    found = Rehearsal(str(folder))
    found.start(NAME)
    yield found
    rehearsal.play("edge")
    rehearsal.play("firewall")
    found.kill(NAME)


def share(rehearsal: Rehearsal, edge: str) -> tuple[str, int]:
    """Return what an edge holds of the host, and how many requests it sent there."""
    rows = csv.DictReader(rehearsal.run(edge, FIGURES).stdout.lstrip("# ").splitlines())
    (row,) = [row for row in rows if (row["pxname"], row["svname"]) == ("api", NAME)]
    return row["status"], int(row["stot"])


def test_a_host_is_added_behind_the_edges_while_orders_go_on(grown: Rehearsal) -> None:
    with grown.customers(rest=0.2) as told:
        said = grown.play(
            "scale_out",
            *("-e", "scale_out_tier=api", "-e", f"scale_out_host={NAME}"),
            *("-e", '{"scale_out_reason": "the third host of a test"}'),
        ).stdout
        time.sleep(SHARE_SECONDS)

    assert "bottleneck: " in said
    found = [share(grown, edge) for edge in grown.groups["edge"]]
    assert [status for status, _ in found] == ["UP"] * len(found)
    assert sum(requests for _, requests in found) > 0
    assert (told["failed"], told["gave_up"], told["missing"], told["unfinished"]) == ([], [], [], {})
