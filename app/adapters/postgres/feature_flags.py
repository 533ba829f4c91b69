"""Declared flags exist with their defaults; a value an operator has set is never overridden, an unknown flag is refused."""

from __future__ import annotations

from collections.abc import Mapping

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.operations import OperationError
from app.contracts.loader import FeatureFlag

_SQL = NamedBlocks("feature_flags")


class UnknownFlagError(OperationError):
    """The database has flags that the contract does not declare; the message names them."""


class FeatureFlags:
    """Rows of cpq.feature_flag."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def values(self) -> dict[str, bool]:
        """Every flag of the environment."""
        rows = await (await self._connection.execute(_SQL["all"])).fetchall()
        return {row["flag"]: row["enabled"] for row in rows}

    async def missing(self, declared: Mapping[str, FeatureFlag]) -> list[str]:
        """Declared flags that the environment does not have yet.

        Raises:
            UnknownFlagError: it has one that is not declared.
        """
        present = await self.values()
        unknown = sorted(present.keys() - declared.keys())
        if unknown:
            raise UnknownFlagError(
                f"not declared in feature_flags.yml: {', '.join(unknown)}; declare it, or delete its row if nothing reads it"
            )
        return sorted(declared.keys() - present.keys())

    async def insert(self, declared: Mapping[str, FeatureFlag], flags: list[str], updated_by: str) -> None:
        """Insert flags with their defaults."""
        async with self._connection.transaction():
            for flag in flags:
                values = {"flag": flag, "enabled": declared[flag].default, "updated_by": updated_by}
                await self._connection.execute(_SQL["insert"], values)
