"""The copy of the record of releases on the machine that releases: one line for each entry, with its hash.

Whoever alters the record in the database does not reach it, and the next release holds the one to the other (`release begin --known`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class RecordCopy:
    """A file that only grows.

    Args:
        path: the file; it and its folder need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self) -> list[str]:
        """Return the option that says where the copy ends; none where there is none."""
        last = self._last()
        return ["--known", f"{last['sequence']}:{last['hash']}"] if last else []

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add what follows the last entry, on disk before this returns; what is there already is passed over."""
        last = self._last()
        after = last["sequence"] if last else 0
        lines = [json.dumps(dict(entry)) + "\n" for entry in entries if entry["sequence"] > after]
        if not lines:
            return
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())

    def _last(self) -> dict[str, Any] | None:
        # A line that a killed run left torn is written again by the next.
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            self._path.write_text("".join(whole))
        found: dict[str, Any] | None = json.loads(whole[-1]) if whole else None
        return found
