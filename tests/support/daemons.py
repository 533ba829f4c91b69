"""The daemons of a host, as the contract declares them: a unit that is added there is tested without being named again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.contracts.loader import load_units

UNITS = Path(__file__).parents[2] / "systemd"


def _daemons() -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(unit.service.replace("@.", f"@{instance}.") for instance in unit.instances or ("",))
        for name, unit in load_units().items()
        # The others are commands.
        if "Type=notify" in (UNITS / unit.service).read_text()
    }


BY_UNIT: Mapping[str, tuple[str, ...]] = _daemons()
"""Names of the services of each deployable."""
ALL = tuple(sorted(service for services in BY_UNIT.values() for service in services))
