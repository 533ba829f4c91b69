"""A simulator as a process, on a port and a state directory of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.contracts.loader import load_external_systems
from tests.support.unit_process import UnitProcess, free_port

TOKENS = tuple(policy.credential for policy in load_external_systems().values())
SECRETS = tuple(policy.callback.secret for policy in load_external_systems().values() if policy.callback.secret)
CREDENTIALS = {name: name for name in ("issuer-client-secret", *TOKENS, *SECRETS)}

StartSimulator = Callable[..., UnitProcess]


@pytest.fixture
def port() -> int:
    """Where the simulator listens."""
    return free_port()


@pytest.fixture
def start(port: int, tmp_path: Path) -> Iterator[StartSimulator]:
    """Starts simulators on one state directory."""
    started: list[UnitProcess] = []

    def start(watchdog_seconds: float | None = None) -> UnitProcess:
        settings = {
            "HTTP_BIND": f"127.0.0.1:{port}",
            "ISSUER_URL": f"http://127.0.0.1:{port}/issuer",
            "AUTH_AUDIENCE": "cpq-oms",
            "EXTERNAL_ENVIRONMENT": "non-production",
            "SIMULATOR_BEHAVIOURS": "",
            "STATE_DIRECTORY": str(tmp_path),
        }
        started.append(UnitProcess("simulator", settings, CREDENTIALS, watchdog_seconds))
        return started[-1]

    yield start
    for simulator in started:
        simulator.close()
