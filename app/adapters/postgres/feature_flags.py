"""Feature flags as operators and releases see them: values, history, and where they differ from the declared defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.flag_changes import FlagChange
from app.application.operations import OperationError
from app.application.repair import RepairReason
from app.contracts.loader import FeatureFlag

_SQL = NamedBlocks("feature_flags")


class UnknownFlagError(OperationError):
    """The database, or the inventory's defaults, have flags that the contract does not declare; the message names them."""


@dataclass(frozen=True, slots=True)
class FlagDrift:
    """A flag whose stored value nobody set and that is not the declared default; `stored` is None where none is."""

    flag: str
    default: bool
    stored: bool | None

    @property
    def sentence(self) -> str:
        """What the release does about it."""
        if self.stored is None:
            return f"set {self.flag} to its default, {str(self.default).lower()}"
        return (
            f"set {self.flag} to its default, {str(self.default).lower()}: it is {str(self.stored).lower()} "
            "and no operator set it so"
        )


class PostgresFlagStore:
    """See `app.application.flag_changes.FlagStore`; the transaction is the caller's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def values(self) -> dict[str, bool]:
        """Every flag's value in the environment."""
        rows = await (await self._connection.execute(_SQL["all"])).fetchall()
        return {row["flag"]: row["enabled"] for row in rows}

    async def drift(self, declared: Mapping[str, FeatureFlag], defaults: Mapping[str, bool]) -> list[FlagDrift]:
        """Flags without a value, and those whose value is neither an operator's nor the default of this environment.

        Args:
            declared: the contract's flags.
            defaults: the environment's own defaults, where they differ from the contract's.

        Raises:
            UnknownFlagError: the database has a flag, or `defaults` names one, that is not declared.
        """
        rows = {row["flag"]: row for row in await (await self._connection.execute(_SQL["all"])).fetchall()}
        unknown = sorted((rows.keys() | defaults.keys()) - declared.keys())
        if unknown:
            raise UnknownFlagError(
                f"not declared in feature_flags.yml: {', '.join(unknown)}; declare it, or delete its row if nothing reads it"
            )
        found = []
        for flag, declaration in sorted(declared.items()):
            default, row = defaults.get(flag, declaration.default), rows.get(flag)
            if row is None:
                found.append(FlagDrift(flag, default, None))
            elif not row["is_operator_set"] and row["enabled"] != default:
                found.append(FlagDrift(flag, default, row["enabled"]))
        return found

    async def overview(self, tenant_id: str | None) -> dict[str, list[dict[str, Any]]]:
        """What the environment has, what tenants (or one of them) have of their own, and what waits for approval."""
        environment = await (await self._connection.execute(_SQL["all"])).fetchall()
        tenants = await (await self._connection.execute(_SQL["of_tenants"], {"tenant_id": tenant_id})).fetchall()
        waiting = await (await self._connection.execute(_SQL["waiting_changes"])).fetchall()
        return {"environment": environment, "tenants": tenants, "waiting": waiting}

    async def history(self, flag: str | None, tenant_id: str | None) -> list[dict[str, Any]]:
        """Every change of a flag (or all), of a tenant (or all), the newest first."""
        cursor = await self._connection.execute(_SQL["history"], {"flag": flag, "tenant_id": tenant_id})
        return await cursor.fetchall()

    async def is_done(self, migration: str) -> bool:
        """See the port."""
        row = await (await self._connection.execute(_SQL["is_done"], {"migration": migration})).fetchone()
        return bool(row and row["is_done"])

    async def has_tenant(self, tenant_id: str) -> bool:
        row = await (await self._connection.execute(_SQL["has_tenant"], {"tenant_id": tenant_id})).fetchone()
        return bool(row and row["there"])

    async def value(self, flag: str, tenant_id: str | None) -> bool | None:
        block = "value" if tenant_id is None else "value_of_tenant"
        cursor = await self._connection.execute(_SQL[block], {"flag": flag, "tenant_id": tenant_id})
        row = await cursor.fetchone()
        return None if row is None else bool(row["enabled"])

    async def put(
        self, flag: str, tenant_id: str | None, *, enabled: bool, operator: str, is_operator_set: bool
    ) -> None:
        values = {"flag": flag, "tenant_id": tenant_id, "enabled": enabled, "operator": operator}
        block = "put" if tenant_id is None else "put_of_tenant"
        await self._connection.execute(_SQL[block], values | {"is_operator_set": is_operator_set})

    async def remove(self, flag: str, tenant_id: str) -> None:
        await self._connection.execute(_SQL["remove_of_tenant"], {"flag": flag, "tenant_id": tenant_id})

    async def supersede(self, flag: str, tenant_id: str | None) -> None:
        await self._connection.execute(_SQL["supersede"], {"flag": flag, "tenant_id": tenant_id})

    async def request(self, change: FlagChange, before: bool | None) -> None:
        await self._insert(change, before, "pending")

    async def record(self, change: FlagChange, before: bool | None) -> None:
        await self._insert(change, before, "applied")

    async def waiting(self, change_id: UUID) -> FlagChange | None:
        row = await (await self._connection.execute(_SQL["waiting"], {"change_id": change_id})).fetchone()
        if row is None:
            return None
        return FlagChange(
            row["change_id"], row["flag"], row["tenant_id"], row["value_after"], row["reason"], row["requested_by"]
        )

    async def approve(self, change: FlagChange, before: bool | None, reason: RepairReason) -> None:
        values = {"change_id": change.change_id, "before": before}
        await self._connection.execute(
            _SQL["approve"], values | {"approved_by": reason.operator, "reason": reason.text}
        )

    async def _insert(self, change: FlagChange, before: bool | None, state: str) -> None:
        values = {
            "change_id": change.change_id,
            "flag": change.flag,
            "tenant_id": change.tenant_id,
            "before": before,
            "value": change.value,
            "state": state,
            "reason": change.reason,
            "requested_by": change.requested_by,
        }
        await self._connection.execute(_SQL["insert_change"], values)
