"""Timers that a host has by their files: systemd lists a unit only where something has loaded it, and one that never ran is not."""

from __future__ import annotations

from pathlib import Path

UNIT_FILES = Path("/etc/systemd/system")


def timers(folder: Path = UNIT_FILES) -> list[str]:
    """Name the platform's timers."""
    return sorted(path.name for path in folder.glob("cpq-oms-*.timer"))
