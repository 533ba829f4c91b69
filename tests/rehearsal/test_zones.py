"""The services of a released environment are reached as the table of flows says; tests/zones tries the table itself."""

from __future__ import annotations

import pytest

from app.contracts.loader import load_network_flows
from tests.support.network_matrix import Matrix
from tests.support.rehearsal import Rehearsal


@pytest.fixture(scope="module")
def matrix(rehearsal: Rehearsal) -> Matrix:
    return Matrix(rehearsal, load_network_flows())


def test_everybody_reaches_what_the_table_says_and_nothing_else(matrix: Matrix) -> None:
    assert matrix.differences(matrix.seen_from_everywhere()) == []


def test_somebody_outside_reaches_the_edges_alone(matrix: Matrix) -> None:
    """Both by their own addresses, at which each can be asked alone, and the one that has the common address by that."""
    edges = [*(matrix.place.hosts[edge] for edge in matrix.place.tiers["edge"]), *matrix.place.shared_addresses]

    assert matrix.seen_from_outside() == {(address, "tcp", 443): "open" for address in edges}


def test_a_hole_is_seen_and_the_next_run_closes_it(matrix: Matrix) -> None:
    worker = matrix.place.tiers["worker"][0]
    matrix.rehearsal.run(worker, "nft insert rule inet cpq_oms input tcp dport 9110 accept")

    hole = f"somebody outside -> {worker}:9110 is open"
    assert matrix.differences({matrix.outside: matrix.seen_from_outside()}) == [hole]
    matrix.rehearsal.play("firewall", "--limit", worker)
    assert matrix.differences({matrix.outside: matrix.seen_from_outside()}) == []


def test_the_control_machine_is_no_way_to_a_service(matrix: Matrix) -> None:
    """Operators reach ssh, figures and consoles; a database or a broker is reached from where its clients are."""
    ports = {port for _, _, port in matrix.allowed(matrix.operator)}

    assert ports.isdisjoint({5432, 6379, 9092, 26500, 8080, 8085})
    assert 22 in ports
