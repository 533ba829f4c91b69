"""Changes of feature flags by operators: declared flags only, each with a reason, and two persons where the contract says so.

A change is in force when its transaction commits: units ask for a flag at each use. What waits for a second person has
no effect, and a newer request for the same flag and tenant takes its place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from app.application.operations import OperationError
from app.application.repair import RepairReason
from app.contracts.loader import FeatureFlag
from app.runtime.ids import Ids


class FlagChangeRefusedError(OperationError):
    """The change is not allowed as it was asked for; nothing was changed."""


@dataclass(frozen=True, slots=True)
class FlagChange:
    """What is asked for.

    Attributes:
        tenant_id: whose value changes; None for the value of the whole environment.
        value: the new value; None takes the tenant's own value away, or goes back to the environment's default.
    """

    change_id: UUID
    flag: str
    tenant_id: str | None
    value: bool | None
    reason: str
    requested_by: str

    @property
    def sentence(self) -> str:
        """The change in words."""
        what = "take its value away" if self.value is None else f"set it to {str(self.value).lower()}"
        return f"{self.flag}: {what} for {self.tenant_id or 'the environment'}"


class FlagStore(Protocol):
    """Where flags and their history are kept: one transaction, opened by the caller."""

    async def has_tenant(self, tenant_id: str) -> bool:
        """Tell whether there is such a tenant."""
        ...

    async def value(self, flag: str, tenant_id: str | None) -> bool | None:
        """The value stored for exactly this flag and tenant, held until the transaction ends; None without one."""
        ...

    async def is_done(self, migration: str) -> bool:
        """Tell whether a migration is in the ledger; a backfill is when nothing is left."""
        ...

    async def put(
        self, flag: str, tenant_id: str | None, *, enabled: bool, operator: str, is_operator_set: bool
    ) -> None:
        """Store a value; `is_operator_set` is False for a default."""
        ...

    async def remove(self, flag: str, tenant_id: str) -> None:
        """Take a tenant's own value away."""
        ...

    async def supersede(self, flag: str, tenant_id: str | None) -> None:
        """Close a change of this flag and tenant that waits, without effect."""
        ...

    async def request(self, change: FlagChange, before: bool | None) -> None:
        """Keep a change that waits for a second person."""
        ...

    async def record(self, change: FlagChange, before: bool | None) -> None:
        """Keep a change that was made at once."""
        ...

    async def waiting(self, change_id: UUID) -> FlagChange | None:
        """A change that waits, held until the transaction ends; None when there is none of that id."""
        ...

    async def approve(self, change: FlagChange, before: bool | None, reason: RepairReason) -> None:
        """Note who approved a change and why."""
        ...


class FlagChanges:
    """What operators do to flags.

    Args:
        store: the transaction.
        declared: the contract's flags.
        defaults: the environment's own defaults, where they differ from the contract's.
        ids: source of change identifiers.
    """

    def __init__(
        self, store: FlagStore, declared: Mapping[str, FeatureFlag], defaults: Mapping[str, bool], ids: Ids
    ) -> None:
        self._store = store
        self._declared = declared
        self._defaults = defaults
        self._ids = ids

    async def change(
        self, flag: str, tenant_id: str | None, reason: RepairReason, *, value: bool | None
    ) -> tuple[FlagChange, bool]:
        """Set a flag, or with None take its value away; answer the change and whether it is in force.

        It is not when it waits for a second person's approval.

        Raises:
            FlagChangeRefusedError: nobody declared the flag, there is no such tenant, what it needs is not done, or nothing
                would change.
        """
        declaration = self._declaration(flag)
        if tenant_id is not None and not await self._store.has_tenant(tenant_id):
            raise FlagChangeRefusedError(f"there is no tenant {tenant_id}")
        await self._hold_to_needs(flag, self._default(flag) if value is None else value)
        before = await self._store.value(flag, tenant_id)
        change = FlagChange(self._ids.new(), flag, tenant_id, value, reason.text, reason.operator)
        if before == (self._default(flag) if value is None and tenant_id is None else value):
            raise FlagChangeRefusedError(f"{change.sentence}: it is so already")
        await self._store.supersede(flag, tenant_id)
        if declaration.approval == "two-person":
            await self._store.request(change, before)
            return change, False
        await self._apply(change, reason.operator)
        await self._store.record(change, before)
        return change, True

    async def approve(self, change_id: UUID, reason: RepairReason) -> FlagChange:
        """Make a change that waits.

        Raises:
            FlagChangeRefusedError: no such change waits, its flag is no longer declared, what it needs is not done, or it is
                the approver's own.
        """
        change = await self._store.waiting(change_id)
        if change is None:
            raise FlagChangeRefusedError(f"no change {change_id} waits for approval")
        self._declaration(change.flag)
        if change.requested_by == reason.operator:
            raise FlagChangeRefusedError(f"{reason.operator} asked for this change: another person must approve it")
        await self._hold_to_needs(change.flag, self._default(change.flag) if change.value is None else change.value)
        before = await self._store.value(change.flag, change.tenant_id)
        await self._apply(change, f"{change.requested_by}, approved by {reason.operator}")
        await self._store.approve(change, before, reason)
        return change

    async def hold_defaults(self, flags: Iterable[str]) -> None:
        """Hold flags that are about to take their defaults to what they need.

        Raises:
            FlagChangeRefusedError: one would be on, and what it needs is not done.
        """
        for flag in flags:
            await self._hold_to_needs(flag, self._default(flag))

    async def _hold_to_needs(self, flag: str, value: bool) -> None:
        needs = self._declaration(flag).needs
        if value and needs is not None and not await self._store.is_done(needs):
            raise FlagChangeRefusedError(
                f"{flag} needs {needs}, which is not done: cpq-oms-admin migrate backfill --plan"
            )

    async def _apply(self, change: FlagChange, operator: str) -> None:
        if change.value is not None:
            await self._store.put(
                change.flag, change.tenant_id, enabled=change.value, operator=operator, is_operator_set=True
            )
        elif change.tenant_id is not None:
            await self._store.remove(change.flag, change.tenant_id)
        else:
            default = self._default(change.flag)
            await self._store.put(change.flag, None, enabled=default, operator=operator, is_operator_set=False)

    def _default(self, flag: str) -> bool:
        return self._defaults.get(flag, self._declared[flag].default)

    def _declaration(self, flag: str) -> FeatureFlag:
        if flag not in self._declared:
            close = difflib.get_close_matches(flag, self._declared, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise FlagChangeRefusedError(f"{flag} is not declared in feature_flags.yml{hint}")
        return self._declared[flag]
