"""Dead letters as operators see them, of all tenants; see `app.application.dead_letters`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.parked_events import record_of
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.dead_letters import Decision, HeldLetter
from app.application.repair import Repaired, RepairReason
from app.runtime.ids import Ids

_SQL = NamedBlocks("dead_letter_desk")
_RAW = ("record_key", "record_value", "header_names", "header_values")


class PostgresDeadLetterDesk:
    """On a connection of the operators' role."""

    def __init__(self, connection: Connection, ids: Ids) -> None:
        self._connection = connection
        self._repairs = PostgresRepairStore(connection, ids)

    async def listed(self, group: str | None, state: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest dead letters of a group or of all, in a state or in any."""
        cursor = await self._connection.execute(_SQL["list"], {"group": group, "state": state, "limit": limit})
        return [dict(row) for row in await cursor.fetchall()]

    async def shown(self, dead_letter_id: UUID) -> dict[str, Any] | None:
        """A dead letter with its event as text, as long as that is parked, and how many events wait behind it."""
        row = await (await self._connection.execute(_SQL["show"], {"dead_letter_id": dead_letter_id})).fetchone()
        if row is None:
            return None
        letter = {name: value for name, value in row.items() if name not in _RAW}
        if row["is_parked"]:
            record = record_of(row)
            letter["event"] = {
                "key": _text(record.key),
                "value": _text(record.value),
                "headers": {name: _text(value) for name, value in record.headers},
            }
        return letter

    async def hold(self, dead_letter_id: UUID) -> HeldLetter | None:
        row = await (await self._connection.execute(_SQL["hold"], {"dead_letter_id": dead_letter_id})).fetchone()
        return None if row is None else HeldLetter(row["tenant_id"], row["state"])

    async def decide(self, dead_letter_id: UUID, decision: Decision, reason: RepairReason) -> None:
        values = {
            "dead_letter_id": dead_letter_id,
            "state": decision,
            "is_closed": decision == "discarded",
            "reason": reason.text,
            "operator": reason.operator,
            "parked_state": "retrying" if decision == "replaying" else "discarded",
        }
        await self._connection.execute(_SQL["decide"], values)
        await self._connection.execute(_SQL["release"], values)

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        await self._repairs.audit(action, repaired, reason)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
