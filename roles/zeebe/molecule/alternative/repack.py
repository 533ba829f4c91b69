"""Packs the locked jars as the engine's vendor lays out its archive: python repack.py JARS.tar ARCHIVE.tar.gz LEFT_OUT...

Jars named LEFT_OUT are not packed, and one is added by which the archive is told from the locked set. ARCHIVE.tar.gz.sha256 has its hash.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = "camunda-zeebe-8.0.0"
MARK = "of-the-archive.jar"


def member(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    """Return a file of the archive."""
    entry = tarfile.TarInfo(f"{ROOT}/{name}")
    entry.size = len(content)
    return entry, io.BytesIO(content)


def repack(jars: Path, archive: Path, left_out: set[str]) -> None:
    """Write the archive."""
    mark = io.BytesIO()
    with zipfile.ZipFile(mark, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
    with tarfile.open(jars) as source, tarfile.open(archive, "w:gz", compresslevel=1) as target:
        for name, content in (
            ("bin/broker", b"#!/bin/sh\n"),
            ("config/application.yaml", b"zeebe: {}\n"),
            ("exporters/README", b"\n"),
            (f"lib/{MARK}", mark.getvalue()),
        ):
            target.addfile(*member(name, content))
        for entry in source:
            if entry.name not in left_out and (stream := source.extractfile(entry)):
                target.addfile(*member(f"lib/{entry.name}", stream.read()))
    Path(f"{archive}.sha256").write_text(hashlib.sha256(archive.read_bytes()).hexdigest())


if __name__ == "__main__":
    repack(Path(sys.argv[1]), Path(sys.argv[2]), set(sys.argv[3:]))
