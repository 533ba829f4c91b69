"""Hosts of every tier in the numbers of production, with their packet filters and nothing else; they go with the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.contracts.loader import load_network_flows
from tests.support import port_listener
from tests.support.network_matrix import Matrix
from tests.support.rehearsal import Rehearsal
from tests.support.scratch_environment import ScratchEnvironment
from tests.zones.environment import NAME, zones_environment

LISTENER = Path(port_listener.__file__).read_text()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchEnvironment]:
    """Hosts that are up and new; nothing is left of them, whatever happens."""
    environment = zones_environment(tmp_path_factory.mktemp(NAME))
    environment.write()
    try:
        # What a run that was killed has left is made anew as well.
        up = environment.set_up("rebuild")
        assert up.returncode == 0, up.stdout + up.stderr
        yield environment
    finally:
        assert environment.take_down() == {}


@pytest.fixture(scope="session")
def matrix(environment: ScratchEnvironment) -> Matrix:
    """Give every host its filter by the playbook that `site.yml` has, and something that answers on every port that will be tried."""
    rehearsal = Rehearsal(str(environment.inventory))
    rehearsal.play("firewall")
    found = Matrix(rehearsal, load_network_flows(), ("tcp", "udp"))
    with ThreadPoolExecutor(len(found.place.hosts)) as pool:
        list(pool.map(lambda host: _listen(found, host), found.place.hosts))
    # Which edge holds the address is no matter of the table.
    edge = found.place.tiers["edge"][0]
    rehearsal.run(edge, f"ip address add {found.place.shared_addresses[0]}/32 dev host0")
    return found


def _listen(matrix: Matrix, host: str) -> None:
    file = "/run/port_listener.py"
    unit = "systemd-run --quiet --unit=port-listener --service-type=notify --property=LimitNOFILE=4096"
    command = f"cat > {file} && {unit} python3 {file} '{json.dumps(matrix.ports)}'"
    matrix.rehearsal.run(host, command, standard_input=LISTENER)
