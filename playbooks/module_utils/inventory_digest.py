"""What identifies an inventory, or any other folder: one digest of all its files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def digest(folder: Path) -> str:
    """Return one SHA-256 of all files below a folder, links followed, by name and content; vault and compiled Python are no part of it."""
    summary = hashlib.sha256()
    files = {
        str(Path(at, name).relative_to(folder)): Path(at, name)
        for at, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name != "vault.yml" and not name.endswith(".pyc")
    }
    for name, path in sorted(files.items()):
        summary.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return summary.hexdigest()
