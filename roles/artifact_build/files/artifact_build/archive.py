"""Files as one tar whose bytes depend on names and contents alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write `members` in the order of their names, each with the same owner, mode and time.

    Not compressed: nearly all of it is wheels, which are.
    """
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(members):
            member = members[name]
            content = member if isinstance(member, bytes) else member.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            entry.mtime = 0
            tar.addfile(entry, io.BytesIO(content))
