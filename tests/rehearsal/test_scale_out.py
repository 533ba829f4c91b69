"""A host is added to the API behind the edges while orders go on: the bottleneck is named, no request fails, and the host gets its share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.inventories import altered, shares
from tests.support.rehearsal import ORDERS_A_SECOND, Rehearsal

# Every host of an environment has its part, and all of them share the cores of one machine.
pytestmark = pytest.mark.timeout(1800)

NAME = "api-3"
# Edges find a host healthy within seconds.
SHARE_SECONDS = 5


@pytest.fixture
def grown(rehearsal: Rehearsal, tmp_path: Path) -> Iterator[Rehearsal]:
    """Give an inventory that names one more host of the API, which has its power and nothing else; leave the environment as it was."""
    last = max(rehearsal.groups["api"], key=lambda host: int(rehearsal.hosts[host].rpartition(".")[2]))
    network, _, number = rehearsal.hosts[last].rpartition(".")

    def one_more(inventory: dict[str, Any]) -> None:
        inventory["children"]["api"]["hosts"][NAME] = {}
        inventory["hosts"][NAME] = {"ansible_host": f"{network}.{int(number) + 1}"}

    found = altered(rehearsal, tmp_path, one_more)
    found.start(NAME)
    # What a rehearsal adds to its hosts before a release: they believe its own authority.
    found.play("base", "-e", f"base_hosts={NAME}")
    found.play("certificates", "-e", f"certificates_hosts={NAME}")
    found.play("rehearsal", "-i", "playbooks/rehearsal/stand_in.yml", "-e", "cpq_rehearsal=true")
    yield found
    rehearsal.play("edge")
    rehearsal.play("firewall")
    found.kill(NAME)


def test_a_host_is_added_behind_the_edges_while_orders_go_on(grown: Rehearsal) -> None:
    with grown.customers(rate=ORDERS_A_SECOND) as told:
        said = grown.play(
            "scale_out",
            *("-e", "scale_out_tier=api", "-e", f"scale_out_host={NAME}"),
            *("-e", '{"scale_out_reason": "the third host of a test"}'),
        ).stdout
        time.sleep(SHARE_SECONDS)

    assert "bottleneck: " in said
    found = shares(grown, "api", NAME)
    assert [share.status for share in found] == ["UP"] * len(found)
    assert sum(share.requests for share in found) > 0
    assert (told["failed"], told["gave_up"], told["missing"], told["unfinished"]) == ([], [], [], {})
