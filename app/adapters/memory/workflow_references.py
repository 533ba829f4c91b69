"""Workflow references in memory, for one transaction at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.application.ports import ClaimedStart
from app.domain.fulfillment import WorkflowReference, WorkflowRequest, WorkflowState
from app.domain.values import OrderId
from app.runtime.clock import Clock


@dataclass
class WorkflowReferenceRows:
    """The rows; a unit of work copies them when it begins and puts its copy in place when it commits."""

    references: dict[OrderId, WorkflowReference] = field(default_factory=dict)
    next_attempts: dict[OrderId, datetime] = field(default_factory=dict)
    errors: dict[OrderId, str] = field(default_factory=dict)
    requests: dict[OrderId, WorkflowRequest] = field(default_factory=dict)
    deployed: set[str] = field(default_factory=set)

    def copy(self) -> WorkflowReferenceRows:
        """A copy that can be changed without changing these."""
        return WorkflowReferenceRows(
            dict(self.references), dict(self.next_attempts), dict(self.errors), dict(self.requests), set(self.deployed)
        )

    def due(self, now: datetime) -> list[WorkflowReference]:
        """Pending references whose time has come, the longest waiting first."""
        pending = [
            reference
            for reference in self.references.values()
            if reference.state is WorkflowState.PENDING and self.next_attempts[reference.order_id] <= now
        ]
        return sorted(pending, key=lambda reference: self.next_attempts[reference.order_id])


class MemoryWorkflowReferenceRepository:
    """See `app.application.ports.WorkflowReferenceRepository`."""

    def __init__(self, rows: WorkflowReferenceRows, clock: Clock) -> None:
        self._rows = rows
        self._clock = clock

    async def request(self, request: WorkflowRequest) -> None:
        self._rows.references[request.order_id] = WorkflowReference(
            order_id=request.order_id,
            tenant_id=request.tenant_id,
            process_id=request.process_id,
            variables_schema_version=request.variables_schema_version,
            message_id=request.message_id,
            state=WorkflowState.PENDING,
            start_attempts=0,
            process_instance_key=None,
            started_at=None,
            finished_at=None,
            traceparent=request.traceparent,
        )
        self._rows.next_attempts[request.order_id] = request.requested_at
        self._rows.requests[request.order_id] = request

    async def claim(self, order_id: OrderId, lease: timedelta) -> ClaimedStart | None:
        now = self._clock.now()
        if order_id not in {reference.order_id for reference in self._rows.due(now)}:
            return None
        reference = self._rows.references[order_id]
        reference = replace(reference, start_attempts=reference.start_attempts + 1)
        self._rows.references[order_id] = reference
        self._rows.next_attempts[order_id] = now + lease
        return ClaimedStart(reference, reference.process_id in self._rows.deployed)

    async def postpone(self, order_id: OrderId, delay: timedelta, error: str) -> None:
        if self._rows.references[order_id].state is WorkflowState.PENDING:
            self._rows.next_attempts[order_id] = self._clock.now() + delay
            self._rows.errors[order_id] = error

    async def get(self, order_id: OrderId) -> WorkflowReference | None:
        return self._rows.references.get(order_id)

    async def save(self, reference: WorkflowReference) -> None:
        self._rows.references[reference.order_id] = reference
        self._rows.errors.pop(reference.order_id, None)
