"""What a running unit asks about feature flags: the value here, or the declared default where none was set."""

from __future__ import annotations

from collections.abc import Mapping

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool
from app.adapters.postgres.unit_of_work import translated_errors

_SQL = NamedBlocks("flag_reader")


class PostgresFeatureFlags:
    """See `app.application.ports.FeatureFlags`; `defaults` are the contract's."""

    def __init__(self, pool: Pool, defaults: Mapping[str, bool]) -> None:
        self._pool = pool
        self._defaults = defaults

    async def is_enabled(self, flag: str) -> bool:
        with translated_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_SQL["value"], {"flag": flag})).fetchone()
        return self._defaults[flag] if row is None else bool(row["enabled"])
