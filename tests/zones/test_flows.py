"""Every host, an operator and somebody outside try every port of every host; what gets through is what the table of flows says."""

from __future__ import annotations

import pytest

from app.contracts.loader import EVERY, NetworkFlows, load_network_flows
from tests.support.network_matrix import Found, Matrix

FLOWS = load_network_flows()


@pytest.fixture(scope="module")
def found(matrix: Matrix) -> dict[str, Found]:
    """What everybody finds open."""
    return matrix.seen_from_everywhere()


def tried() -> list[int]:
    """List the rows of the table that end at a port of a host."""
    return [
        number
        for number, flow in enumerate(FLOWS.flows)
        if any(
            service.port
            for target in flow.targets
            if target not in FLOWS.outsiders
            for service in [(FLOWS.ports[EVERY] if target == EVERY else FLOWS.services(target))[flow.port]]
        )
    ]


def without(number: int) -> NetworkFlows:
    """The table without one of its rows."""
    return FLOWS.model_copy(update={"flows": FLOWS.flows[:number] + FLOWS.flows[number + 1 :]})


def test_everybody_reaches_what_the_table_says_and_nothing_else(matrix: Matrix, found: dict[str, Found]) -> None:
    assert matrix.differences(found) == []
    # Behind each rule somebody answered, so an answer came all the way back.
    assert {answer for ports in found.values() for answer in ports.values()} == {"open"}


@pytest.mark.parametrize("number", tried(), ids=lambda number: FLOWS.flows[number].reason.partition(",")[0])
def test_a_row_is_missed_when_it_is_taken_out_of_the_table(
    matrix: Matrix, found: dict[str, Found], number: int
) -> None:
    """So each row was tried on the network by somebody whom no other row lets through."""
    assert matrix.by(without(number)).differences(found)


def test_outside_reaches_the_edges_alone(matrix: Matrix, found: dict[str, Found]) -> None:
    edges = [*(matrix.place.hosts[edge] for edge in matrix.place.tiers["edge"]), *matrix.place.shared_addresses]

    assert found[matrix.outside].keys() == {(address, "tcp", 443) for address in edges}


def test_a_hole_and_a_flow_that_is_cut_are_seen_and_the_next_run_mends_both(matrix: Matrix) -> None:
    worker, database = matrix.place.tiers["worker"][0], matrix.place.tiers["db"][0]
    client = matrix.place.tiers["api"][0]
    address = matrix.place.hosts[client]
    matrix.rehearsal.run(worker, "nft insert rule inet cpq_oms input tcp dport 9110 accept")
    matrix.rehearsal.run(database, f"nft insert rule inet cpq_oms input ip saddr {address} tcp dport 5432 drop")

    assert sorted(matrix.differences({address: matrix.seen(client), matrix.outside: matrix.seen_from_outside()})) == [
        f"{client} -> {database}:5432 is closed",
        f"{client} -> {worker}:9110 is open",
        f"somebody outside -> {worker}:9110 is open",
    ]
    matrix.rehearsal.play("firewall", "--limit", f"{worker},{database}")
    assert matrix.differences({address: matrix.seen(client), matrix.outside: matrix.seen_from_outside()}) == []
