"""Which release this process was installed from: written beside the code at installation, never configured."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """Identity of the installed release: its id such as `cpq-oms-2026.11.22-001` and the commit it was built from."""

    release_id: str
    git_commit: str


def installed_release(prefix: Path | None = None) -> Release:
    """Read `release.json` of the installation; a checkout has none and answers `unreleased`."""
    path = (prefix or Path(sys.prefix)) / "release.json"
    if not path.is_file():
        return Release(release_id="unreleased", git_commit="unreleased")
    document = json.loads(path.read_text())
    return Release(release_id=document["release_id"], git_commit=document["git_commit"])
