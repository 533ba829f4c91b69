"""Where the services for integration tests are, and their secrets: on the hosts of an inventory made for tests.

CPQ_TEST_INVENTORY_ENV names the environment whose state directory is read, `ci` by default. A file `endpoints.json`
there may name other addresses than the host's own, service by service.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from tests.support.released_host import STATE, find_host

PORTS = {"postgresql": 5432, "redis": 6379, "kafka": 9092, "zeebe": 26500, "simulator": 8090}


@dataclass(frozen=True)
class Services:
    """The running services that tests use."""

    environment: str
    endpoints: dict[str, str]

    def address(self, service: str) -> str:
        """`host:port` of a service."""
        return self.endpoints[service]

    def secret(self, name: str) -> str:
        """A generated secret, such as `db_api_password`."""
        return (STATE / self.environment / "secrets" / name).read_text().strip()

    def database_url(self, unit: str) -> str:
        """The URL that a unit's own database role uses, without its password."""
        return f"postgresql://cpq_{unit}@{self.address('postgresql')}/cpq"


def find_services() -> Services:
    """Read the environment's state.

    Raises:
        FileNotFoundError: its hosts were never brought up.
    """
    environment = os.environ.get("CPQ_TEST_INVENTORY_ENV", "ci")
    state = STATE / environment
    if not state.is_dir():
        raise FileNotFoundError(f"{state}: the hosts of the {environment} inventory are not up")
    override = state / "endpoints.json"
    named: dict[str, str] = json.loads(override.read_text()) if override.is_file() else {}
    if named.keys() >= PORTS.keys():
        return Services(environment, named)
    address = find_host().address
    return Services(environment, {service: f"{address}:{port}" for service, port in PORTS.items()} | named)
