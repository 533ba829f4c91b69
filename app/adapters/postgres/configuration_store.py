"""Runtime settings as operators change them."""

from __future__ import annotations

from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.configuration import SettingChange
from app.runtime.ids import Ids

_SQL = NamedBlocks("configuration_store")


class PostgresConfigurationStore:
    """See `app.application.configuration.ConfigurationStore`; the transaction is the caller's."""

    def __init__(self, connection: Connection, ids: Ids) -> None:
        self._connection = connection
        self._ids = ids

    async def make(self, change: SettingChange) -> bool:
        values = {
            "unit": change.unit,
            "name": change.name,
            "value": change.value,
            "reason": change.reason.text,
            "operator": change.reason.operator,
        }
        row = await (await self._connection.execute(_SQL["value"], values)).fetchone()
        before = None if row is None else row["value"]
        if before == change.value:
            return False
        await self._connection.execute(_SQL["remove" if change.value is None else "put"], values)
        await self._connection.execute(_SQL["record"], values | {"change_id": self._ids.new(), "before": before})
        await self._connection.execute(_SQL["notify"])
        return True

    async def overview(self) -> dict[str, list[dict[str, Any]]]:
        """What is set, and the latest changes."""
        in_force = await (await self._connection.execute(_SQL["all"])).fetchall()
        history = await (await self._connection.execute(_SQL["history"])).fetchall()
        return {"set": in_force, "history": history}
