"""Writes the support bundle: every file through one masker, and nothing at all where a secret is still in it."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils.masking import Masker, leaks

# Of one file its end is kept: what came last tells why.
MOST_CHARACTERS = 512 * 1024
MOST_BYTES = 64 * 1024 * 1024
KEPT = 5


class ArchiveRefusedError(Exception):
    """It is not written; the message says why."""


def archive(name: str, files: Mapping[str, str], secrets: Mapping[str, str]) -> bytes:
    """Return a tar.gz of masked files; the same files give the same bytes.

    Args:
        name: the folder in it.
        files: texts by path.
        secrets: values by name, none of which may be in it.

    Raises:
        ArchiveRefusedError: one still is, or there is too much.
    """
    masker = Masker(secrets)
    content = io.BytesIO()
    total = 0
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for path, text in sorted(files.items()):
            # Cut after it was masked, so that no value is cut in two and half of it kept.
            data = _end_of(masker.masked(text)).encode()
            total += len(data)
            if total > MOST_BYTES:
                raise ArchiveRefusedError(f"it would be larger than {MOST_BYTES} bytes at {path}")
            entry = tarfile.TarInfo(f"{name}/{masker.masked(path)}")
            entry.size, entry.mode = len(data), 0o600
            writer.addfile(entry, io.BytesIO(data))
    packed = gzip.compress(content.getvalue(), mtime=0)
    _hold(packed, secrets)
    return packed


def _end_of(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"[{len(text) - MOST_CHARACTERS} characters before this were left out]\n{text[-MOST_CHARACTERS:]}"


def _hold(packed: bytes, secrets: Mapping[str, str]) -> None:
    """Read what was packed as its reader will, and look for every secret in every name and file."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as reader:
        for entry in reader:
            stream = reader.extractfile(entry)
            found = leaks(entry.name.encode() + b"\n" + (stream.read() if stream else b""), secrets)
            if found:
                raise ArchiveRefusedError(f"{entry.name} still holds {', '.join(found)} after it was masked")


def running(path: Path) -> dict[str, dict[str, Any]]:
    """Return by host what an archive says is installed there and in which state its units are."""
    found = {}
    with tarfile.open(path) as reader:
        for entry in reader:
            place = Path(entry.name)
            stream = reader.extractfile(entry) if place.name == "running.json" else None
            if stream is not None:
                found[place.parent.name] = json.load(stream)
    return found


def kept(folder: Path, run: str, packed: bytes) -> Path:
    """Write the archive of a run into its folder, for its owner alone, whole or not at all; drop those of older runs.

    Args:
        folder: where each run has its folder.
        run: the name of this one.
        packed: the archive.
    """
    path = folder / run / f"support-{run}.tar.gz"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.touch(mode=0o600)
    partial.chmod(0o600)
    partial.write_bytes(packed)
    partial.replace(path)
    for older in sorted(folder.glob("*/support-*.tar.gz"), key=lambda one: one.parent.name, reverse=True)[KEPT:]:
        older.unlink()
    return path
