"""Writes how old backups, archived log and the last restore drill are, as figures that the host's exporter shows.

All of it is read on the backup host, so it still tells the truth when every database host is gone.

Usage: backup_figures.py FILE
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recovery_proof import Settings

ARCHIVE = Path("/var/lib/pgbackrest/archive")
DRILL = Path("/var/lib/restore-drill/result.json")
SEGMENT = re.compile(r"[0-9A-F]{24}-[0-9a-f]{40}")


def figure(name: str, meaning: str, samples: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of one figure, of which each sample has its labels as key; none without samples."""
    if samples:
        yield f"# HELP {name} {meaning}\n# TYPE {name} gauge\n"
        yield from (f"{name}{labels} {value:.10g}\n" for labels, value in samples.items())


def backups(stanza: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is of backups; one in which pages had wrong checksums is none."""
    sound = [one for one in stanza.get("backup", []) if not one.get("error")]
    newest = {f'{{type="{one["type"]}"}}': float(one["timestamp"]["stop"]) for one in sound}
    yield from figure("cpq_backup_last_success_timestamp_seconds", "When the newest backup of a type was done.", newest)
    damaged = {"": float(len(stanza.get("backup", [])) - len(sound))}
    yield from figure("cpq_backup_damaged", "Backups with pages whose checksums are wrong.", damaged)
    oldest = {"": float(min(one["timestamp"]["stop"] for one in sound))} if sound else {}
    yield from figure("cpq_backup_oldest_timestamp_seconds", "The earliest moment that can be restored.", oldest)


def archived(stanza: Mapping[str, Any], archive: Path) -> Iterator[str]:
    """Yield when the newest segment of write-ahead log came."""
    times = [
        path.stat().st_mtime
        for one in stanza.get("archive", [])[-1:]
        if one.get("max")
        for path in (archive / stanza["name"] / one["id"] / one["max"][:16]).glob("*")
        if SEGMENT.match(path.name)
    ]
    newest = {"": max(times)} if times else {}
    yield from figure("cpq_backup_archive_newest_timestamp_seconds", "When log was archived last.", newest)


def drilled(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the last restore drill found; a drill that never was has ended at 0."""
    yield from figure(
        "cpq_restore_drill_finished_timestamp_seconds",
        "When the last restore drill ended.",
        {"": float(result.get("finished_at", 0))},
    )
    known = {
        "cpq_restore_drill_passed": "Whether its rows were those of the marker.",
        "cpq_restore_drill_restore_seconds": "How long newest backup and all log took.",
        "cpq_restore_drill_point_in_time_seconds": "How long the restore to the marker took.",
        "cpq_restore_drill_recovery_point_age_seconds": "How old the newest sign of life was that it brought back.",
    }
    for name, meaning in known.items():
        key = name.removeprefix("cpq_restore_drill_")
        if key in result:
            yield from figure(name, meaning, {"": float(result[key])})
    rows = {f'{{table="{table}"}}': float(one["rows"]) for table, one in result.get("digest", {}).items()}
    yield from figure("cpq_restore_drill_rows", "Rows that were compared.", rows)


def page(settings: Settings, told: list[dict[str, Any]], drill: Mapping[str, Any], archive: Path = ARCHIVE) -> str:
    """Return all figures, from what pgBackRest tells of its repository and the drill of itself."""
    stanza = next((one for one in told if one["name"] == settings.stanza), {"name": settings.stanza})
    lines = [
        *figure("cpq_recovery_point_objective_seconds", "Declared.", {"": float(settings.recovery_point_seconds)}),
        *figure("cpq_recovery_time_objective_seconds", "Declared.", {"": float(settings.recovery_time_seconds)}),
        *backups(stanza),
        *archived(stanza, archive),
        *drilled(drill),
    ]
    return "".join(lines)


def main() -> None:
    """Write the page in one step: the exporter may read it at any moment."""
    settings = Settings.read()
    command = ["pgbackrest", f"--stanza={settings.stanza}", "--output=json", "--log-level-console=off", "info"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    drill = json.loads(DRILL.read_text()) if DRILL.exists() else {}
    target = Path(sys.argv[1])
    new = target.with_suffix(".new")
    new.write_text(page(settings, told, drill))
    new.chmod(0o644)
    new.rename(target)


if __name__ == "__main__":
    main()
