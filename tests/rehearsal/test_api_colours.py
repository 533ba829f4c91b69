"""Of two colours of the API one is served by every edge, and an operator changes it while orders go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.inventories import altered, shares
from tests.support.rehearsal import ORDERS_A_SECOND, Rehearsal

# Customers ask again and again meanwhile.
SOME_SECONDS = 5


@pytest.fixture
def coloured(rehearsal: Rehearsal, tmp_path: Path) -> Iterator[Rehearsal]:
    """Give every API host a colour in turn, and take it away from the edges afterwards."""

    def in_turn(inventory: dict[str, Any]) -> None:
        for number, host in enumerate(rehearsal.groups["api"]):
            inventory["hosts"][host]["cpq_colour"] = ("blue", "green")[number % 2]

    found = altered(rehearsal, tmp_path, in_turn)
    found.play("edge")
    yield found
    found.play("colour", "-e", "colour=blue")
    rehearsal.play("edge")


def requests(rehearsal: Rehearsal) -> dict[str, int]:
    """Return how many requests all edges have sent to each host as one of its colour."""
    return {
        host: sum(share.requests for share in shares(rehearsal, f"api-{('blue', 'green')[number % 2]}", host))
        for number, host in enumerate(rehearsal.groups["api"])
    }


def test_an_operator_has_the_other_colour_served_and_no_request_fails(coloured: Rehearsal) -> None:
    greens = {host for number, host in enumerate(coloured.groups["api"]) if number % 2}
    with coloured.customers(rate=ORDERS_A_SECOND) as told:
        coloured.play("colour", "-e", "colour=green")
        before = requests(coloured)
        time.sleep(SOME_SECONDS)
        after = requests(coloured)

    assert {host for host in after if after[host] > before[host]} == greens
    assert (told["failed"], told["gave_up"], told["missing"], told["unfinished"]) == ([], [], [], {})
