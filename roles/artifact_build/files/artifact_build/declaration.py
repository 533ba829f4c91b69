"""What each artifact may hold, as declared in app/contracts/artifacts.yml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from artifact_build.refusal import RefusedError

LOCATION = Path("app/contracts/artifacts.yml")
_KEYS = {"unit", "modules", "data", "shared", "distributions"}


@dataclass(frozen=True)
class Declaration:
    """The allow-list of one artifact.

    Attributes:
        name: distribution name, such as `cpq-oms-relay`.
        unit: the deployable, such as `relay`; its entry point is `app.entrypoints.<unit>`.
        modules: prefixes of the own modules it may hold.
        data: glob patterns of the data files it holds inside the import package.
        shared: glob patterns of the files it holds below `share/cpq-oms/` of its installation.
        distributions: the third-party distributions it holds, no more and no fewer.
    """

    name: str
    unit: str
    modules: tuple[str, ...]
    data: tuple[str, ...]
    shared: tuple[str, ...]
    distributions: frozenset[str]

    @property
    def entry_point(self) -> str:
        """The package whose reachable modules the artifact holds."""
        return f"app.entrypoints.{self.unit}"

    def allows_module(self, module: str) -> bool:
        """Tell whether `module` or one of its parents is on the list; packages on the way to an allowed one are."""
        return any(
            module == prefix or module.startswith(f"{prefix}.") or prefix.startswith(f"{module}.")
            for prefix in self.modules
        )


def read_declarations(root: Path) -> Mapping[str, Declaration]:
    """Read every artifact's declaration, by unit.

    Raises:
        RefusedError: the file is malformed, an entry has other keys than these, or a list names something twice.
    """
    try:
        document: dict[str, Any] = yaml.safe_load((root / LOCATION).read_text(encoding="utf-8"))["artifacts"]
        declarations = {}
        for name, entry in document.items():
            if set(entry) | {"shared"} != _KEYS:
                raise RefusedError(f"{LOCATION}: {name}: expected the keys {', '.join(sorted(_KEYS))}")
            for key in ("modules", "data", "shared", "distributions"):
                listed = entry.get(key, ())
                if twice := sorted({part for part in listed if listed.count(part) > 1}):
                    raise RefusedError(f"{LOCATION}: {name}: {key}: {', '.join(twice)} is there twice")
            declarations[str(entry["unit"])] = Declaration(
                name=name,
                unit=entry["unit"],
                modules=tuple(entry["modules"]),
                data=tuple(entry["data"]),
                shared=tuple(entry.get("shared", ())),
                distributions=frozenset(entry["distributions"]),
            )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"{LOCATION} is not a list of artifacts: {error}") from error
    return declarations
