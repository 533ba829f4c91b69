"""Loads the hand-written SQL of an adapter: one file per module, blocks headed `-- name: <name>` and a sentence."""

from __future__ import annotations

import re
from importlib import resources
from typing import LiteralString, cast

_HEADER = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


class NamedBlocks:
    """The blocks of one `<module>.sql`, by name.

    Raises:
        ValueError: the file has no block, or two of the same name.
    """

    def __init__(self, module: str) -> None:
        text = resources.files("app.adapters.postgres.sql").joinpath(f"{module}.sql").read_text(encoding="utf-8")
        _, *parts = _HEADER.split(text)
        names = parts[::2]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{module}.sql: expected blocks of different names")
        # Files of this package, never input: psycopg may treat them like literals of the source.
        self._blocks = {
            name: cast("LiteralString", body.strip().removesuffix(";"))
            for name, body in zip(names, parts[1::2], strict=True)
        }
        self._module = module

    def __getitem__(self, name: str) -> LiteralString:
        try:
            return self._blocks[name]
        except KeyError:
            raise KeyError(f"{self._module}.sql has no block {name}") from None
