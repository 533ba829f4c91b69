"""Fallout cases in PostgreSQL, as operators see them: of all tenants."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.adapters.postgres.fulfillment import PostgresFulfillmentRepository
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.fallout import Decision, FalloutEntry, HeldFallout
from app.application.repair import Repaired, RepairReason
from app.domain.external_calls import AttemptState, ExternalCallAttempt
from app.domain.fulfillment import FulfillmentTask
from app.domain.order import OrderState
from app.domain.values import OrderId
from app.runtime.ids import Ids

_SQL = NamedBlocks("fallout")


class PostgresFalloutStore:
    """See `app.application.fallout.FalloutStore`."""

    def __init__(self, connection: Connection, ids: Ids) -> None:
        self._connection = connection
        self._fulfillment = PostgresFulfillmentRepository(connection)
        self._repairs = PostgresRepairStore(connection, ids)

    async def waiting(self) -> list[FalloutEntry]:
        return [FalloutEntry(**row) for row in await self._rows("waiting", {})]

    async def of_order(self, order_id: OrderId) -> list[FalloutEntry]:
        """Every case an order ever had, oldest first."""
        return [FalloutEntry(**row) for row in await self._rows("of_order", {"order_id": order_id})]

    async def hold(self, order_id: OrderId, step: str) -> HeldFallout | None:
        tasks = {task.step: task for task in await self._fulfillment.tasks(order_id)}
        order = await self._rows("order_state", {"order_id": order_id})
        cases = [case for case in await self.of_order(order_id) if case.step == step and case.state == "open"]
        if not order or step not in tasks or not cases:
            return None
        return HeldFallout(cases[0], OrderState(order[0]["state"]), tasks[step], await self.attempts(order_id, step))

    async def attempts(self, order_id: OrderId, step: str) -> list[ExternalCallAttempt]:
        """The calls of a step, oldest first."""
        rows = await self._rows("attempts", {"order_id": order_id, "step": step})
        return [ExternalCallAttempt(**{**row, "state": AttemptState(row["state"])}) for row in rows]

    async def tasks(self, order_id: OrderId) -> list[FulfillmentTask]:
        """The order's tasks."""
        return await self._fulfillment.tasks(order_id)

    async def awaiting_release(self, order_id: OrderId, step: str) -> FalloutEntry | None:
        decided = [
            case
            for case in await self.of_order(order_id)
            if case.step == step and case.decision is not None and case.engine_released_at is None
        ]
        return decided[-1] if decided else None

    async def save_task(self, task: FulfillmentTask) -> None:
        await self._fulfillment.save(task)

    async def save_attempt(self, attempt: ExternalCallAttempt) -> None:
        await self._fulfillment.save_attempt(attempt)

    async def decide(
        self, fallout_id: UUID, decision: Decision, reason: RepairReason, evidence: str | None, *, is_released: bool
    ) -> None:
        values = {
            "fallout_id": fallout_id,
            "decision": decision,
            "decided_by": reason.operator,
            "reason": reason.text,
            "evidence": evidence,
            "is_released": is_released,
        }
        await self._connection.execute(_SQL["decide"], values)

    async def mark_released(self, fallout_id: UUID) -> None:
        await self._connection.execute(_SQL["mark_released"], {"fallout_id": fallout_id})

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        await self._repairs.audit(action, repaired, reason)

    async def _rows(self, block: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in await (await self._connection.execute(_SQL[block], values)).fetchall()]
