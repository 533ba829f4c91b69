"""What an order needs done outside: one task per step, the process that drives them, and what becomes of a bad one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.domain.external_calls import FIRST_EPOCH
from app.domain.order import Order
from app.domain.values import OrderId, TenantId

FOREIGN_DELIVERIES = frozenset({"foreign-process-version", "foreign-process-instance"})
"""Codes of cases about a job that is not the order's own: it never runs for this order."""


class TaskState(StrEnum):
    """Where a fulfillment task stands."""

    PENDING = "pending"
    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"
    FAILED = "failed"
    """Refused for good before the order had any effect outside: the order failed with it."""
    FALLOUT = "fallout"
    """Waits for a person; the order stays in progress."""
    CANCELLED = "cancelled"
    """Not done and not to be done, as a person decided; the order goes on without it."""


@dataclass(frozen=True, slots=True)
class FulfillmentTask:
    """One step of an order; `step` is the job type that performs it.

    `run_count` counts the runs begun, crashed ones included: the workflow engine does not count those. A task is in
    progress from a run's beginning to its recorded end: one found so before a run begins had a run that died, or still
    runs elsewhere. `epoch` is part of the idempotency key of the step's calls. `waiting_since` is when the external system
    first put off what it was last asked for.
    """

    order_id: OrderId
    tenant_id: TenantId
    step: str
    state: TaskState
    updated_at: datetime
    run_count: int = 0
    external_reference: str | None = None
    last_error: str | None = None
    epoch: int = FIRST_EPOCH
    waiting_since: datetime | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the order can be completed as far as this step goes."""
        return self.state in {TaskState.COMPLETED, TaskState.CANCELLED}

    def begin(self, now: datetime) -> FulfillmentTask:
        """Count one more run."""
        return replace(self, state=TaskState.IN_PROGRESS, run_count=self.run_count + 1, updated_at=now)

    def complete(self, external_reference: str | None, now: datetime) -> FulfillmentTask:
        """Note that the step is done and what the external system calls it."""
        return replace(
            self,
            state=TaskState.COMPLETED,
            external_reference=external_reference,
            last_error=None,
            waiting_since=None,
            updated_at=now,
        )

    def note_error(self, error: str, now: datetime) -> FulfillmentTask:
        """End a run with an error; the step will be tried again."""
        return replace(self, state=TaskState.PENDING, last_error=error, waiting_since=None, updated_at=now)

    def postpone(self, error: str, now: datetime) -> FulfillmentTask:
        """End a run that could not even try: it does not count."""
        return replace(
            self.note_error(error, now),
            run_count=max(0, self.run_count - 1),
            waiting_since=self.waiting_since or now,
        )

    def has_waited(self, patience: timedelta, now: datetime) -> bool:
        """Whether the external system has put the step off for so long."""
        return self.waiting_since is not None and now - self.waiting_since >= patience

    def fail(self, error: str, now: datetime) -> FulfillmentTask:
        """Note that the step was refused for good and failed the order."""
        return replace(self, state=TaskState.FAILED, last_error=error, updated_at=now)

    def fall_out(self, error: str, now: datetime) -> FulfillmentTask:
        """Set the step aside for a person."""
        return replace(self, state=TaskState.FALLOUT, last_error=error, waiting_since=None, updated_at=now)

    def start_over(self, now: datetime, *, is_new_epoch: bool) -> FulfillmentTask:
        """Let the step run again, from its first run; under a new epoch its calls carry a new key."""
        epoch = self.epoch + 1 if is_new_epoch else self.epoch
        return replace(self, state=TaskState.PENDING, run_count=0, epoch=epoch, updated_at=now)

    def cancel(self, now: datetime) -> FulfillmentTask:
        """Give the step up; the order goes on."""
        return replace(self, state=TaskState.CANCELLED, updated_at=now)


@dataclass(frozen=True, slots=True)
class FalloutCase:
    """A step that a person must look at. One is open per order and step at most."""

    fallout_id: UUID
    tenant_id: TenantId
    order_id: OrderId
    step: str
    error_code: str
    detail: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job of the workflow engine that a worker process took for a step of an order.

    Kept while the order is in fulfillment: the engine itself gives the job of a dead process to nobody else until its time
    is over, but takes it back at once from whoever knows its key.
    """

    order_id: OrderId
    tenant_id: TenantId
    step: str
    job_key: int
    retries: int
    instance_id: str
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowRequest:
    """The wish for exactly one process instance, committed together with its order.

    `message_id` is a function of order and process: however often the start is repeated, the engine makes one instance.
    `route_id` and `route_reason` say how the process version was chosen. `traceparent` is the trace that the order was
    accepted in: what becomes of the order later belongs to it.
    """

    order_id: OrderId
    tenant_id: TenantId
    process_id: str
    variables_schema_version: int
    requested_at: datetime
    route_id: UUID | None = None
    route_reason: str | None = None
    traceparent: str | None = None

    @property
    def message_id(self) -> str:
        """The engine's deduplication key."""
        return f"{self.order_id}:{self.process_id}"


class WorkflowState(StrEnum):
    """Where an order's process stands, as far as this side knows."""

    PENDING = "pending"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WorkflowReference:
    """Which process instance drives an order: at most one, for ever."""

    order_id: OrderId
    tenant_id: TenantId
    process_id: str
    variables_schema_version: int
    message_id: str
    state: WorkflowState
    start_attempts: int
    process_instance_key: int | None
    started_at: datetime | None
    finished_at: datetime | None
    traceparent: str | None = None

    def start(self, now: datetime) -> WorkflowReference:
        """Note that the engine has the start message; later states stay."""
        if self.state is not WorkflowState.PENDING:
            return self
        return replace(self, state=WorkflowState.STARTED, started_at=now)

    def belongs_to(self, process_instance_key: int) -> bool:
        """Whether this instance may act on the order: the first that shows up, and from then on only that one."""
        return self.process_instance_key in {None, process_instance_key}

    def attach(self, process_instance_key: int, now: datetime) -> WorkflowReference:
        """Note the instance that showed up; its job also proves that the start arrived."""
        return replace(self.start(now), process_instance_key=process_instance_key)

    def finish(self, state: WorkflowState, now: datetime) -> WorkflowReference:
        """Note that the process has nothing left to do for the order."""
        return replace(self, state=state, finished_at=now)


def order_hash(order: Order) -> str:
    """SHA-256 over what was ordered, at what price: it never changes after acceptance, whatever the order's state."""
    content = {
        "orderId": str(order.order_id),
        "tenantId": order.tenant_id,
        "quoteId": str(order.quote_id),
        "customerId": order.customer_id,
        "currency": order.currency,
        "catalogVersion": order.catalog_version,
        "totalOneTime": str(order.total_one_time),
        "totalRecurring": str(order.total_recurring),
        "items": [
            {
                "itemNo": item.item_no,
                "action": item.action,
                "offeringId": item.offering_id,
                "quantity": item.quantity,
                "serviceSpecification": item.service_specification,
                "totalOneTime": str(item.total_one_time),
                "totalRecurring": str(item.total_recurring),
            }
            for item in order.items
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
