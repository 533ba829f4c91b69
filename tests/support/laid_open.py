"""Bundles as a plan reads them: what this checkout lays open, with a manifest, and nothing that could be installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS
from app.contracts.loader import DIRECTORY, load_units
from tests.support.releases import NEW, OLD

__all__ = ["NEW", "OLD", "add_event_field", "laid_open", "make_bundle"]

ROOT = DIRECTORY.parents[1]


def make_bundle(folder: Path, release_id: str) -> Path:
    """Make one of all deployables."""
    shutil.copytree(DIRECTORY, folder / "contracts", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(ROOT / "bpmn", folder / "bpmn")
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    units: dict[str, Any] = {unit: {} for unit in load_units()}
    (folder / "manifest.json").write_text(json.dumps({"release_id": release_id, "units": units}))
    return folder


def add_event_field(bundle: Path) -> None:
    """Let order events say one thing more, as consumers promised to pass over."""
    path = bundle / "contracts/events/order.v1.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["salesChannel"] = {"type": "string"}
    path.write_text(json.dumps(schema))


def laid_open(bundle: Path) -> dict[str, dict[str, str]]:
    """Return the files of a bundle by part and name, as hosts tell of what is installed on them."""
    return {
        part: {path.name: path.read_text() for path in (bundle / "contracts").glob(pattern)}
        for part, pattern in {**PARTS, **DECLARATIONS}.items()
    }
