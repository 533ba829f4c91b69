"""The table of settings in docs/configuration.md, made from their declarations: `python -m tests.support.settings_table`."""

from __future__ import annotations

from pathlib import Path

from app.settings.declaration import is_secret, setting_of, value_class
from app.settings.shared import ProcessSettings
from app.settings.simulator import SimulatorSettings
from app.settings.units import UNITS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"
ALL: dict[str, type[ProcessSettings]] = {**UNITS, "simulator": SimulatorSettings}


def table() -> str:
    """One row per setting: name, units, values, category, change rule."""
    units: dict[str, list[str]] = {}
    rest: dict[str, tuple[str, str, str]] = {}
    for unit, model in ALL.items():
        for name, field in model.model_fields.items():
            shown = name.replace("_", "-") if is_secret(field) else name.upper()
            declared = setting_of(field)
            units.setdefault(shown, []).append(unit)
            rest[shown] = (value_class(field).replace("|", "\\|"), declared.category, declared.change)
    rows = [
        f"| `{name}` | {'all' if len(units[name]) == len(ALL) else ', '.join(units[name])} | {' | '.join(rest[name])} |"
        for name in sorted(units, key=lambda name: (name.islower(), name))
    ]
    return "\n".join(["| setting | units | value | category | changes |", "|---|---|---|---|---|", *rows, ""])


def main() -> None:
    """Write the table into the page."""
    page = PAGE.read_text()
    head, _, tail = page.partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + tail.partition(END)[2])


if __name__ == "__main__":
    main()
