"""The table of settings in docs/configuration.md and app/contracts/settings.json, by which releases are compared.

Both are made from the declarations: `python -m tests.support.settings_table`.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic.fields import FieldInfo

from app.contracts.loader import DIRECTORY
from app.settings.declaration import described, is_secret, setting_of, value_class
from app.settings.shared import ProcessSettings
from app.settings.simulator import SimulatorSettings
from app.settings.units import UNITS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
SCHEMA = DIRECTORY / "settings.json"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"
SYSTEMD_GIVES = frozenset({"state_directory", "credentials_directory"})
"""Settings that no inventory gives."""
ALL: dict[str, type[ProcessSettings]] = {**UNITS, "simulator": SimulatorSettings}


def table() -> str:
    """One row per setting: name, units, values, category, change rule."""
    units: dict[str, list[str]] = {}
    rest: dict[str, tuple[str, str, str]] = {}
    for unit, model in ALL.items():
        for name, field in model.model_fields.items():
            shown = _name(name, field)
            declared = setting_of(field)
            units.setdefault(shown, []).append(unit)
            rest[shown] = (value_class(field).replace("|", "\\|"), declared.category, declared.change)
    rows = [
        f"| `{name}` | {'all' if len(units[name]) == len(ALL) else ', '.join(units[name])} | {' | '.join(rest[name])} |"
        for name in sorted(units, key=lambda name: (name.islower(), name))
    ]
    return "\n".join(["| setting | units | value | category | changes |", "|---|---|---|---|---|", *rows, ""])


def schema() -> str:
    """Every setting that an inventory gives to a unit, by unit and name, as JSON."""
    units = {
        unit: {
            _name(name, field): described(field)
            for name, field in model.model_fields.items()
            if name not in SYSTEMD_GIVES
        }
        for unit, model in ALL.items()
    }
    return json.dumps(units, indent=1, sort_keys=True) + "\n"


def _name(field_name: str, field: FieldInfo) -> str:
    return field_name.replace("_", "-") if is_secret(field) else field_name.upper()


def main() -> None:
    """Write the table into the page, and the schema beside the other contracts."""
    SCHEMA.write_text(schema())
    page = PAGE.read_text()
    head, _, tail = page.partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + tail.partition(END)[2])


if __name__ == "__main__":
    main()
