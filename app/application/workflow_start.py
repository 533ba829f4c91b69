"""Turns accepted orders into process instances: each into exactly one, whatever is lost on the way.

The reference was committed with the order. It is claimed for a while, then the start message is published with the
reference's own message id, then the reference is marked. Death or a lost reply between any two of these repeats the
publication with the same id, which the engine recognises. While the engine is away, orders stay accepted and wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from app.application.ports import (
    ClaimedStart,
    ConcurrentChange,
    DueStart,
    EngineRefused,
    EngineUnavailable,
    StartQueue,
    StoreUnavailable,
    UnitOfWorkFactory,
    WorkflowEngine,
)
from app.contracts import process_variables
from app.contracts.process_variables import VariablesError
from app.domain.fulfillment import WorkflowReference, order_hash
from app.domain.order import Order
from app.messaging.retry import Backoff
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.tracing import span

log = get_logger(__name__)

FLAG = "order-fulfillment-start"

LEASE = timedelta(seconds=30)
"""How long a claim lasts: longer than a publication may take, short enough for an order to wait for."""

_NOT_DEPLOYED_DELAY = timedelta(seconds=5)
_REFUSED_DELAY = timedelta(minutes=1)


class StartObserver(Protocol):
    """Is told of start attempts: metrics, never decisions."""

    def start(self, outcome: Literal["started", "already_started", "failed"]) -> None:
        """One attempt was made."""
        ...


@dataclass(frozen=True, slots=True)
class StartPass:
    """What one pass over the due references came to.

    Attributes:
        attempted: references claimed and tried.
        is_more_due: whether there may be more that are due now.
        database_problem: why the database could not be used, or None.
        engine_problem: why the engine could not be used, or None when it answered or was not asked.
    """

    attempted: int
    is_more_due: bool = False
    database_problem: str | None = None
    engine_problem: str | None = None

    @property
    def problem(self) -> str | None:
        """What to wait for before the next pass, or None."""
        return self.database_problem or self.engine_problem


class WorkflowStarter:
    """One starter; any number may run side by side.

    Args:
        queue: due references of all tenants but those whose switch makes their orders wait.
        unit_of_work: opens a tenant's transaction.
        engine: where processes are started.
        clock: time for the records.
        observer: metrics.
        batch: references looked at per pass.
        concurrency: publications under way at once.
    """

    def __init__(
        self,
        *,
        queue: StartQueue,
        unit_of_work: UnitOfWorkFactory,
        engine: WorkflowEngine,
        clock: Clock,
        observer: StartObserver,
        batch: int = 32,
        concurrency: int = 8,
    ) -> None:
        self._queue = queue
        self._unit_of_work = unit_of_work
        self._engine = engine
        self._clock = clock
        self._observer = observer
        self._batch = batch
        self._slots = asyncio.Semaphore(concurrency)
        self._backoff = Backoff(initial=0.5, maximum=10.0)
        self._is_engine_away = False

    async def run_pass(self) -> StartPass:
        """Try the references that are due. Never raises for an engine or a database that is away."""
        # While the engine is away one reference asks for all: the others keep their place and their attempts.
        limit = 1 if self._is_engine_away else self._batch
        try:
            due = await self._queue.due(limit, FLAG)
        except StoreUnavailable as error:
            return StartPass(0, database_problem=str(error))
        passes = await asyncio.gather(*(self._start(reference) for reference in due))
        return StartPass(
            attempted=sum(one.attempted for one in passes),
            is_more_due=len(due) == limit,
            database_problem=next((one.database_problem for one in passes if one.database_problem), None),
            engine_problem=next((one.engine_problem for one in passes if one.engine_problem), None),
        )

    async def _start(self, due: DueStart) -> StartPass:
        async with self._slots:
            try:
                return await self._start_one(due)
            except (StoreUnavailable, ConcurrentChange) as error:
                # The claim stands or was never made; either way the reference comes back by itself.
                return StartPass(1, database_problem=str(error))

    async def _start_one(self, due: DueStart) -> StartPass:
        async with self._unit_of_work(due.tenant_id) as uow:
            claimed = await uow.workflow_references.claim(due.order_id, LEASE)
            order = await uow.orders.get(due.order_id)
            await uow.commit()
        if claimed is None or order is None:
            return StartPass(0)
        reference = claimed.reference
        attributes = {"cpq.order_id": str(reference.order_id), "cpq.tenant": reference.tenant_id}
        with span("start process", "client", parent=reference.traceparent, attributes=attributes):
            return await self._start_claimed(claimed, order)

    async def _start_claimed(self, claimed: ClaimedStart, order: Order) -> StartPass:
        reference = claimed.reference
        if not claimed.is_process_deployed:
            # The engine would keep the message and never look at it again, not even when the process arrives.
            await self._postpone(reference, _NOT_DEPLOYED_DELAY, f"process {reference.process_id} is not deployed")
            return StartPass(1)
        try:
            is_new = await self._engine.start(
                reference.process_id,
                correlation_key=str(reference.order_id),
                message_id=reference.message_id,
                variables=process_variables.write(
                    reference.variables_schema_version,
                    orderId=str(reference.order_id),
                    tenantId=reference.tenant_id,
                    orderHash=order_hash(order),
                    processId=reference.process_id,
                ),
            )
        except EngineUnavailable as error:
            self._is_engine_away = True
            delay = timedelta(seconds=self._backoff.delay(reference.start_attempts))
            await self._postpone(reference, delay, str(error))
            return StartPass(1, engine_problem=str(error))
        except (EngineRefused, VariablesError) as error:
            await self._postpone(reference, _REFUSED_DELAY, str(error))
            return StartPass(1)
        self._is_engine_away = False
        await self._mark_started(reference)
        self._observer.start("started" if is_new else "already_started")
        log.info("process started", order_id=str(reference.order_id), tenant=reference.tenant_id, is_new=is_new)
        return StartPass(1)

    async def _mark_started(self, reference: WorkflowReference) -> None:
        async with self._unit_of_work(reference.tenant_id) as uow:
            current = await uow.workflow_references.get(reference.order_id)
            if current is not None:  # its first job may have come before us
                await uow.workflow_references.save(current.start(self._clock.now()))
            await uow.commit()

    async def _postpone(self, reference: WorkflowReference, delay: timedelta, error: str) -> None:
        self._observer.start("failed")
        log.warning("process not started", order_id=str(reference.order_id), tenant=reference.tenant_id, error=error)
        async with self._unit_of_work(reference.tenant_id) as uow:
            await uow.workflow_references.postpone(reference.order_id, delay, error)
            await uow.commit()
