"""Files of the audit export: written beside their place, brought to disk, then renamed into it."""

from __future__ import annotations

import os
from pathlib import Path


class DirectoryExportFiles:
    """See `app.application.audit_export.ExportFiles`.

    Args:
        root: the folder that holds a folder per tenant; made when the first file is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, folder: str, name: str, content: bytes) -> None:
        directory = self._root / folder
        directory.mkdir(parents=True, exist_ok=True)
        # A leftover of a killed process is overwritten: the name is always the same.
        beside = directory / f".{name}.new"
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(directory / name)
        for changed in (directory, self._root):
            _sync_directory(changed)

    def read(self, folder: str, name: str) -> bytes | None:
        try:
            return (self._root / folder / name).read_bytes()
        except FileNotFoundError:
            return None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
