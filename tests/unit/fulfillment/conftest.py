"""One order, its rows in memory, and everything that can go wrong around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from app.adapters.memory.external_system import MemoryExternalSystem
from app.adapters.memory.fulfillment import FulfillmentRows, MemoryFulfillmentRepository
from app.adapters.memory.workflow_engine import MemoryWorkflowEngine
from app.adapters.memory.workflow_references import MemoryWorkflowReferenceRepository, WorkflowReferenceRows
from app.application.fulfillment import Fulfillment, StepJob, StepResult
from app.application.ports import AuditEntry, CallName, DueStart, StoreUnavailable, UnitOfWork
from app.application.publication import Publication
from app.application.workflow_start import WorkflowStarter
from app.contracts.loader import load_feature_flags, load_job_types, load_topics
from app.domain.fulfillment import FulfillmentTask, TaskState, WorkflowRequest, order_hash
from app.domain.order import Order, OrderItem, OrderState, OrderTransition
from app.domain.quote import ItemAction
from app.domain.values import CustomerId, Money, OfferingId, OrderId, QuoteId, TenantId
from app.entrypoints.worker.registry import JOBS
from app.messaging.envelope import Envelope

TENANT = TenantId("acme")
PROCESS = "order-fulfillment-v1"
INSTANCE = 4711
PATIENCE = timedelta(hours=24)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FixedClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return (self.time - START).total_seconds()

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class CountedIds:
    """Identifiers 1, 2, 3, …"""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> UUID:
        self._last += 1
        return UUID(int=self._last)


@dataclass
class Rows:
    """Everything a transaction may change."""

    orders: dict[OrderId, Order] = field(default_factory=dict)
    transitions: list[OrderTransition] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    outbox: list[Envelope] = field(default_factory=list)
    fulfillment: FulfillmentRows = field(default_factory=FulfillmentRows)
    workflow: WorkflowReferenceRows = field(default_factory=WorkflowReferenceRows)

    def copy(self) -> Rows:
        return Rows(
            dict(self.orders),
            list(self.transitions),
            list(self.audit),
            list(self.outbox),
            self.fulfillment.copy(),
            self.workflow.copy(),
        )


class MemoryUnitOfWork:
    """A transaction over a copy of the rows."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._rows = lab.rows.copy()
        self.fulfillment = MemoryFulfillmentRepository(self._rows.fulfillment)
        self.workflow_references = MemoryWorkflowReferenceRepository(self._rows.workflow, lab.clock)

    @property
    def orders(self) -> MemoryUnitOfWork:
        return self

    @property
    def audit(self) -> MemoryUnitOfWork:
        return self

    @property
    def outbox(self) -> MemoryUnitOfWork:
        return self

    async def get(self, order_id: OrderId, *, for_update: bool = False) -> Order | None:
        return self._rows.orders.get(order_id)

    async def save(self, order: Order, transition: OrderTransition, *, expected_version: int) -> None:
        assert self._rows.orders[order.order_id].version == expected_version
        self._rows.orders[order.order_id] = order
        self._rows.transitions.append(transition)

    async def append(self, what: AuditEntry | Sequence[Envelope]) -> None:
        if isinstance(what, AuditEntry):
            self._rows.audit.append(what)
        else:
            self._rows.outbox.extend(what)

    async def commit(self) -> None:
        if self._lab.commits_until_failure is not None:
            if self._lab.commits_until_failure == 0:
                raise StoreUnavailable("gone")
            self._lab.commits_until_failure -= 1
        self._lab.rows = self._rows


class Lab:
    """An accepted order and the use cases that fulfil it.

    Attributes:
        commits_until_failure: so many commits succeed, then the database is gone; None for never.
    """

    def __init__(self) -> None:
        self.clock, self.ids = FixedClock(), CountedIds()
        self.rows = Rows()
        self.systems = {name: MemoryExternalSystem() for name in ("inventory", "provisioning", "billing")}
        self.engine = MemoryWorkflowEngine()
        self.commits_until_failure: int | None = None
        self.tenants_off: set[TenantId] = set()
        self.states: list[str] = []
        self.starts: list[str] = []
        self.order = an_order()
        self.fulfillment = Fulfillment(
            unit_of_work=self.open,
            systems=self.systems,
            instance_id="tests",
            environment="test",
            max_runs=dict.fromkeys(JOBS, 3),
            patience=dict.fromkeys(self.systems, PATIENCE),
            clock=self.clock,
            ids=self.ids,
            publication=Publication(load_topics(), self.ids),
            orders=self,
            calls=self,
        )
        self.starter = WorkflowStarter(
            queue=self,
            unit_of_work=self.open,
            engine=self.engine,
            clock=self.clock,
            observer=self,
        )

    async def accept(self) -> None:
        """Store the order as a conversion does."""
        order_id = self.order.order_id
        self.rows.orders[order_id] = self.order
        uow = MemoryUnitOfWork(self)
        await uow.fulfillment.add(
            [FulfillmentTask(order_id, TENANT, step, TaskState.PENDING, START) for step in load_job_types().job_types]
        )
        await uow.workflow_references.request(WorkflowRequest(order_id, TENANT, PROCESS, 1, START, traceparent=TRACE))
        await uow.commit()
        self.rows.workflow.deployed.add(PROCESS)

    @asynccontextmanager
    async def open(self, tenant_id: TenantId) -> AsyncIterator[UnitOfWork]:
        yield cast("UnitOfWork", MemoryUnitOfWork(self))

    def job(self, step: str, **changes: Any) -> StepJob:
        values: dict[str, Any] = {
            "step": step,
            "order_id": self.order.order_id,
            "tenant_id": TENANT,
            "order_hash": order_hash(self.order),
            "process_instance_key": INSTANCE,
            "job_key": 99,
            "retries": 5,
        }
        return StepJob(**values | changes)

    async def run(self, step: str, **changes: Any) -> StepResult:
        """Deliver a job."""
        return await JOBS[step](self.fulfillment, self.job(step, **changes))

    @property
    def order_state(self) -> OrderState:
        return self.rows.orders[self.order.order_id].state

    def task(self, step: str) -> FulfillmentTask:
        return self.rows.fulfillment.tasks[self.order.order_id, step]

    def attempt_states(self, step: str) -> list[str]:
        attempts = [attempt for attempt in self.rows.fulfillment.attempts.values() if attempt.step == step]
        return [attempt.state for attempt in sorted(attempts, key=lambda attempt: attempt.attempt_no)]

    # Ports that need no class of their own.

    async def due(self, limit: int, flag: str) -> list[DueStart]:
        assert flag in load_feature_flags()
        due = self.rows.workflow.due(self.clock.now())
        started = [reference for reference in due if reference.tenant_id not in self.tenants_off]
        return [DueStart(reference.order_id, reference.tenant_id) for reference in started[:limit]]

    def reached(self, state: str) -> None:
        self.states.append(state)

    def call(self, system: str, outcome: CallName) -> None:
        pass

    def start(self, outcome: str) -> None:
        self.starts.append(outcome)


def an_order() -> Order:
    """An accepted order for one new connection."""
    one_time, recurring = Money(Decimal("49.90"), "EUR"), Money(Decimal("39.90"), "EUR")
    item = OrderItem(1, ItemAction.ADD, OfferingId("fiber-1000"), 1, "fiber-access", one_time, recurring)
    return Order(
        order_id=OrderId(UUID(int=0xA0)),
        tenant_id=TENANT,
        quote_id=QuoteId(UUID(int=0xB0)),
        version=1,
        aggregate_seq=1,
        state=OrderState.ACKNOWLEDGED,
        customer_id=CustomerId("customer-1"),
        currency="EUR",
        catalog_version=1,
        total_one_time=one_time,
        total_recurring=recurring,
        items=(item,),
        created_by="tests",
        created_at=START,
        updated_at=START,
    )


@pytest.fixture
async def lab() -> Lab:
    """A lab with one accepted order."""
    lab = Lab()
    await lab.accept()
    return lab
