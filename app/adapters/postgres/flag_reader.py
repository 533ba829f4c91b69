"""What a running unit asks about feature flags: the tenant's value, the environment's, or the declared default."""

from __future__ import annotations

from collections.abc import Mapping

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool
from app.adapters.postgres.unit_of_work import translated_errors
from app.domain.values import TenantId

_SQL = NamedBlocks("flag_reader")


class PostgresFeatureFlags:
    """See `app.application.ports.FeatureFlags`; `defaults` are the contract's."""

    def __init__(self, pool: Pool, defaults: Mapping[str, bool]) -> None:
        self._pool = pool
        self._defaults = defaults

    async def is_enabled(self, flag: str, tenant_id: TenantId | None = None) -> bool:
        default = self._defaults[flag]  # an undeclared flag is a defect, whatever the database holds
        with translated_errors():
            async with self._pool.connection() as connection:
                if tenant_id is None:
                    cursor = await connection.execute(_SQL["value"], {"flag": flag})
                    row = await cursor.fetchone()
                else:
                    values = {"flag": flag, "tenant_id": tenant_id}
                    async with connection.pipeline(), connection.transaction():
                        await connection.execute(_SQL["set_tenant"], values)
                        cursor = await connection.execute(_SQL["value_of_tenant"], values)
                        row = await cursor.fetchone()
        return default if row is None else bool(row["enabled"])
