"""What an order needs done outside: one task per step, and the reference to the process that drives them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.values import OrderId, TenantId


class TaskState(StrEnum):
    """Where a fulfillment task stands."""

    PENDING = "pending"
    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"
    FAILED = "failed"
    FALLOUT = "fallout"


@dataclass(frozen=True, slots=True)
class FulfillmentTask:
    """One step of an order; `step` is the job type that performs it."""

    order_id: OrderId
    tenant_id: TenantId
    step: str
    state: TaskState
    updated_at: datetime
    run_count: int = 0
    external_reference: str | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowRequest:
    """The wish for exactly one process instance, committed together with its order.

    `message_id` is a function of order and process: however often the start is repeated, the engine makes one instance.
    """

    order_id: OrderId
    tenant_id: TenantId
    process_id: str
    variables_schema_version: int
    requested_at: datetime

    @property
    def message_id(self) -> str:
        """The engine's deduplication key."""
        return f"{self.order_id}:{self.process_id}"
