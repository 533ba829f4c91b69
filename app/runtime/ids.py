"""The only place that makes identifiers: UUIDv7, so that keys of one table grow in time order."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import uuid_utils.compat


class Ids(Protocol):
    """A source of new identifiers."""

    def new(self) -> UUID:
        """Return an identifier never returned before."""
        ...


class UuidV7Ids:
    """Time-ordered random identifiers."""

    def new(self) -> UUID:
        return uuid_utils.compat.uuid7()
