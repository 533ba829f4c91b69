"""Performs the steps of an order's fulfillment: each effect outside once, whatever is lost or killed on the way.

A run of a step has up to three parts, each a transaction of its own: it begins (the run is counted, the call written
down), it calls, and it records the answer. Whatever dies in between leaves a call that is `prepared` or `unknown`; the
next run asks the external system what was done under the same key before it sends anything. A step that is done answers
at once, without a call, however often the engine hands it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

from app.application.ports import (
    AuditEntry,
    CallDone,
    CallNotDone,
    CallObserver,
    CallOutcome,
    CallRefused,
    CallUnknown,
    ExternalSystem,
    OrderObserver,
    UnitOfWork,
    UnitOfWorkFactory,
)
from app.application.publication import Publication
from app.application.written_calls import StepCall, WrittenCalls, outcome_name
from app.domain.external_calls import ExternalCallAttempt
from app.domain.fulfillment import (
    FalloutCase,
    FulfillmentTask,
    HeldJob,
    TaskState,
    WorkflowReference,
    WorkflowState,
    order_hash,
)
from app.domain.order import Order, OrderChange, OrderState
from app.domain.values import Actor, OrderId, TenantId
from app.runtime.clock import Clock
from app.runtime.ids import Ids
from app.runtime.logging import get_logger
from app.runtime.tracing import follow, tag

log = get_logger(__name__)

PRINCIPAL = "cpq-oms-worker"

# A first run that died is usually a bystander of a crash or of a lost database; a second one is worth a suspicion.
_SUSPECT_RUNS = 2


@dataclass(frozen=True, slots=True)
class StepJob:
    """One delivery of a job by the workflow engine, with the process's variables; version 1 of them has no process id."""

    step: str
    order_id: OrderId
    tenant_id: TenantId
    order_hash: str
    process_instance_key: int
    job_key: int
    retries: int
    process_id: str | None = None

    @property
    def actor(self) -> Actor:
        """Who acts in this run."""
        return Actor(tenant_id=self.tenant_id, principal=PRINCIPAL, request_id=f"job:{self.job_key}")


@dataclass(frozen=True, slots=True)
class StepDone:
    """The step is done, now or before."""


@dataclass(frozen=True, slots=True)
class StepRetry:
    """The step is not done; a later run may succeed.

    `retry_after`: the run could not even try and was not counted; a run before then cannot either.
    """

    error: str
    run_count: int
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class StepFallout:
    """A person must look: a fallout case is open, and no further run may happen by itself."""

    error_code: str
    detail: str


@dataclass(frozen=True, slots=True)
class StepRefused:
    """The order was refused before it had any effect outside; it has failed."""

    detail: str


StepResult: TypeAlias = StepDone | StepRetry | StepFallout | StepRefused


def reservation(order: Order) -> Mapping[str, Any]:
    """What inventory is asked to reserve."""
    return {
        **_order_head(order),
        "items": [
            {"itemNo": item.item_no, "action": item.action, "offeringId": item.offering_id, "quantity": item.quantity}
            for item in order.items
        ],
    }


def activation(order: Order) -> Mapping[str, Any]:
    """What provisioning is asked to activate."""
    return {
        **_order_head(order),
        "items": [
            {
                "itemNo": item.item_no,
                "action": item.action,
                "serviceSpecification": item.service_specification,
                "quantity": item.quantity,
            }
            for item in order.items
        ],
    }


def subscription(order: Order) -> Mapping[str, Any]:
    """What billing is asked to charge: the order's price, as decimal texts."""
    return {
        **_order_head(order),
        "customerId": order.customer_id,
        "currency": order.currency,
        "totalOneTime": str(order.total_one_time),
        "totalRecurring": str(order.total_recurring),
    }


@dataclass(frozen=True, slots=True)
class _Held:
    """An order's rows, read and held in one transaction."""

    order: Order
    reference: WorkflowReference
    tasks: Mapping[str, FulfillmentTask]
    task: FulfillmentTask


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run that was counted; `is_first` when it moved the order to inProgress."""

    held: _Held
    is_first: bool


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A run that was not begun: those before it died, and may have taken the process with them."""


class Fulfillment:
    """The steps of order fulfillment.

    Args:
        unit_of_work: opens a tenant's transaction.
        systems: the external systems, by name.
        instance_id: this process, for what it leaves behind when it dies.
        environment: part of every idempotency key, so that environments that share a system never meet.
        max_runs: by step, its runs, crashed ones included, after which it falls out.
        patience: by external system, how long it may put a step off before that falls out.
        clock: time for the records.
        ids: identifiers for the records.
        publication: turns events into envelopes.
        orders: told of orders that reached a state.
        calls: told of calls that went out.
    """

    def __init__(
        self,
        *,
        unit_of_work: UnitOfWorkFactory,
        systems: Mapping[str, ExternalSystem],
        instance_id: str,
        environment: str,
        max_runs: Mapping[str, int],
        patience: Mapping[str, timedelta],
        clock: Clock,
        ids: Ids,
        publication: Publication,
        orders: OrderObserver,
        calls: CallObserver,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._systems = systems
        self._instance_id = instance_id
        self._written = WrittenCalls(unit_of_work=unit_of_work, environment=environment, clock=clock, ids=ids)
        self._max_runs = max_runs
        self._patience = patience
        self._clock = clock
        self._ids = ids
        self._publication = publication
        self._orders = orders
        self._calls = calls
        self._suspects = asyncio.Lock()

    async def perform(self, job: StepJob, system: str, request_for: Callable[[Order], Mapping[str, Any]]) -> StepResult:
        """Run a step that an external system does.

        Raises:
            StoreUnavailable, ConcurrentChange: nothing more is known than before; run the step again.
        """
        return await self._one_suspect_at_a_time(partial(self._perform, job, system, request_for))

    async def _one_suspect_at_a_time(self, run: Callable[..., Awaitable[StepResult | _Suspect]]) -> StepResult:
        """Run a step; if its last runs died, not beside another such step.

        A run that kills the process takes every run beside it along, and each is counted. Apart from each other, only
        the killer is counted again.
        """
        result = await run(is_alone=False)
        if isinstance(result, _Suspect):
            async with self._suspects:
                result = await run(is_alone=True)
        if isinstance(result, _Suspect):
            raise TypeError("a run that is alone is never put off")
        return result

    async def _perform(
        self, job: StepJob, system: str, request_for: Callable[[Order], Mapping[str, Any]], *, is_alone: bool
    ) -> StepResult | _Suspect:
        async with self._unit_of_work(job.tenant_id) as uow:
            begun = await self._begin(uow, job, is_alone=is_alone)
            if isinstance(begun, _Suspect):
                return begun
            if not isinstance(begun, _Begun):
                await uow.commit()
                return begun
            call = StepCall(job.tenant_id, job.order_id, job.step, system, request_for(begun.held.order))
            attempt = await uow.fulfillment.last_attempt(job.order_id, job.step)
            is_open = attempt is not None and attempt.is_open
            if attempt is None or not is_open:
                attempt = await self._written.prepare(uow, call, attempt, epoch=begun.held.task.epoch)
            await uow.commit()
        if begun.is_first:
            self._orders.reached(OrderState.IN_PROGRESS)
        if is_open:
            found = await self._systems[system].find(attempt.idempotency_key)
            if not isinstance(found, CallNotDone):
                return await self._record(job, attempt, found)
            attempt = await self._written.prepare_again(call, attempt, found)
        outcome = await self._call(system, attempt.idempotency_key, call.request)
        return await self._record(job, attempt, outcome)

    async def complete_order(self, job: StepJob) -> StepResult:
        """Complete an order all of whose other steps are done.

        Raises:
            StoreUnavailable, ConcurrentChange: nothing was changed; run the step again.
        """
        return await self._one_suspect_at_a_time(partial(self._complete_order, job))

    async def _complete_order(self, job: StepJob, *, is_alone: bool) -> StepResult | _Suspect:
        async with self._unit_of_work(job.tenant_id) as uow:
            begun = await self._begin(uow, job, is_alone=is_alone)
            if isinstance(begun, _Suspect):
                return begun
            if not isinstance(begun, _Begun):
                await uow.commit()
                return begun
            undone = sorted(step for step, task in begun.held.tasks.items() if step != job.step and not task.is_settled)
            result: StepResult
            if undone:
                result = await self._fall_out(uow, job, begun.held.task, "steps-not-completed", ", ".join(undone))
                await uow.commit()
                return result
            now = self._clock.now()
            change = begun.held.order.transition(
                OrderState.COMPLETED, reason="every step is completed", actor=PRINCIPAL, now=now
            )
            await self._change_order(uow, job, begun.held, change, action="order.complete")
            await uow.fulfillment.save(begun.held.task.complete(None, now))
            await uow.fulfillment.forget_jobs(job.order_id)
            await uow.workflow_references.save(begun.held.reference.finish(WorkflowState.COMPLETED, now))
            await uow.commit()
        self._orders.reached(OrderState.COMPLETED)
        log.info("order completed", order_id=str(job.order_id), tenant=job.tenant_id)
        return StepDone()

    async def refuse(self, job: StepJob, error_code: str, detail: str) -> StepFallout:
        """Open a case for a delivery that cannot be read as a run; order and step stay as they are.

        Its instance is noted where none was: by it the case's incident is found when the case is closed.

        Raises:
            StoreUnavailable, ConcurrentChange: nothing was changed; refuse again.
        """
        async with self._unit_of_work(job.tenant_id) as uow:
            held = await self._hold(uow, job)
            if held is None:
                return StepFallout(error_code, detail)
            if held.reference.process_instance_key is None:
                await uow.workflow_references.save(held.reference.attach(job.process_instance_key, self._clock.now()))
            result = await self._open_case(uow, job, error_code, detail)
            await uow.commit()
        return result

    async def _hold(self, uow: UnitOfWork, job: StepJob) -> _Held | None:
        """Read and hold the order's rows, the order's first; None when the tenant has no such order or step."""
        order = await uow.orders.get(job.order_id, for_update=True)
        reference = await uow.workflow_references.get(job.order_id)
        tasks = {task.step: task for task in await uow.fulfillment.tasks(job.order_id)}
        if order is None or reference is None or job.step not in tasks:
            return None
        follow(reference.traceparent)
        tag(order_id=str(job.order_id), tenant=job.tenant_id)
        return _Held(order, reference, tasks, tasks[job.step])

    async def _begin(self, uow: UnitOfWork, job: StepJob, *, is_alone: bool) -> _Begun | _Suspect | StepResult:
        """Count a run, unless the delivery is none of this order's business or the step needs no run."""
        held = await self._hold(uow, job)
        if held is None:
            # No row to hang a case on: the incident in the engine is all there can be.
            return StepFallout("unknown-order", f"tenant {job.tenant_id} has no order {job.order_id} with this step")
        order, reference, task = held.order, held.reference, held.task
        now = self._clock.now()
        if job.process_id not in {None, reference.process_id}:
            detail = (
                f"instance {job.process_instance_key} is of {job.process_id}, the order's is {reference.process_id}"
            )
            return await self._open_case(uow, job, "foreign-process-version", detail)
        if not reference.belongs_to(job.process_instance_key):
            detail = f"instance {job.process_instance_key} is not {reference.process_instance_key}"
            return await self._open_case(uow, job, "foreign-process-instance", detail)
        if reference.process_instance_key is None:
            reference = reference.attach(job.process_instance_key, now)
            await uow.workflow_references.save(reference)
        answer = _settled(task) or (None if is_alone else _suspicion(task))
        if answer is not None:
            return answer
        objection = self._objection(job, order, task)
        if objection is not None:
            return await self._fall_out(uow, job, task, *objection)
        is_first = order.state is OrderState.ACKNOWLEDGED
        if is_first:
            change = order.transition(OrderState.IN_PROGRESS, reason="fulfillment began", actor=PRINCIPAL, now=now)
            await self._change_order(uow, job, held, change, action="order.begin")
            order = change.order
        task = task.begin(now)
        held_job = HeldJob(
            job.order_id, job.tenant_id, job.step, job.job_key, job.retries, self._instance_id, taken_at=now
        )
        await uow.fulfillment.begin(task, held_job)
        return _Begun(_Held(order, reference, held.tasks, task), is_first)

    def _objection(self, job: StepJob, order: Order, task: FulfillmentTask) -> tuple[str, str] | None:
        """Why no further run may happen without a person: code and detail, or None."""
        if order_hash(order) != job.order_hash:
            return "order-changed", "the order is not the one that was accepted"
        if order.state not in {OrderState.ACKNOWLEDGED, OrderState.IN_PROGRESS}:
            return "order-not-in-progress", f"the order is {order.state}"
        if task.run_count >= self._max_runs[job.step]:
            last_error = task.last_error or "none, the process died"
            return "runs-exhausted", f"{task.run_count} runs without a result; last error: {last_error}"
        return None

    async def _call(self, system: str, key: str, request: Mapping[str, Any]) -> CallOutcome:
        """Call, and when the answer is lost ask at once what was done."""
        outcome = await self._systems[system].call(key, request)
        self._calls.call(system, outcome_name(outcome))
        if not isinstance(outcome, CallUnknown):
            return outcome
        log.warning("outcome of an external call is unknown", system=system, idempotency_key=key, error=outcome.error)
        found = await self._systems[system].find(key)
        if isinstance(found, CallUnknown):
            pause = found.retry_after or outcome.retry_after
            return CallUnknown(f"{outcome.error}; asked: {found.error}", outcome.status, pause)
        if isinstance(found, CallNotDone):
            # A slow request may still arrive and act: the next call carries the same key, so there is one effect.
            return CallNotDone(f"{outcome.error}; asked: {found.error}", outcome.status)
        return found

    async def _record(self, job: StepJob, attempt: ExternalCallAttempt, outcome: CallOutcome) -> StepResult:
        """Write down what became of a call and what follows from it."""
        async with self._unit_of_work(job.tenant_id) as uow:
            held = await self._hold(uow, job)
            if held is None:  # rows are never deleted
                raise LookupError(f"order {job.order_id} is gone")
            now, task = self._clock.now(), held.task
            await self._written.close(uow, attempt, outcome)
            result: StepResult
            if isinstance(outcome, CallDone):
                result = await self._step_done(uow, job, task, outcome)
            elif task.is_settled:  # another delivery of the job was faster, or a person
                result = StepDone()
            elif isinstance(outcome, CallRefused):
                result = await self._step_refused(uow, job, held, outcome)
            elif outcome.retry_after is not None and task.has_waited(self._patience[attempt.external_system], now):
                result = await self._fall_out(uow, job, task, "put-off-too-long", outcome.error)
            elif outcome.retry_after is not None:
                after = task.postpone(outcome.error, now)
                await uow.fulfillment.save(after)
                result = StepRetry(outcome.error, after.run_count, outcome.retry_after)
            elif task.run_count >= self._max_runs[job.step] or job.retries <= 1:
                code = "outcome-unknown" if isinstance(outcome, CallUnknown) else "runs-exhausted"
                result = await self._fall_out(uow, job, task, code, outcome.error)
            else:
                await uow.fulfillment.save(task.note_error(outcome.error, now))
                result = StepRetry(outcome.error, task.run_count)
            await uow.commit()
        if isinstance(result, StepRefused):
            self._orders.reached(OrderState.FAILED)
        return result

    async def _step_done(self, uow: UnitOfWork, job: StepJob, task: FulfillmentTask, done: CallDone) -> StepResult:
        if task.is_settled:
            return StepDone()
        after = task.complete(done.reference, self._clock.now())
        await uow.fulfillment.save(after)
        await self._audit(uow, job, "fulfillmentTask.complete", task, after)
        return StepDone()

    async def _step_refused(self, uow: UnitOfWork, job: StepJob, held: _Held, refused: CallRefused) -> StepResult:
        """Fail the order while nothing has to be undone; later, a person decides."""
        order, task = held.order, held.task
        if any(other.state is TaskState.COMPLETED for other in held.tasks.values()):
            return await self._fall_out(uow, job, task, "refused", refused.error)
        now = self._clock.now()
        change = order.transition(OrderState.FAILED, reason=f"{job.step} was refused", actor=PRINCIPAL, now=now)
        await self._change_order(uow, job, held, change, action="order.fail")
        await uow.workflow_references.save(held.reference.finish(WorkflowState.FAILED, now))
        await uow.fulfillment.forget_jobs(job.order_id)
        after = task.fail(refused.error, now)
        await uow.fulfillment.save(after)
        await self._audit(uow, job, "fulfillmentTask.fail", task, after)
        return StepRefused(refused.error)

    async def _fall_out(
        self, uow: UnitOfWork, job: StepJob, task: FulfillmentTask, error_code: str, detail: str
    ) -> StepFallout:
        """Set the step aside and open a case; the order stays as it is."""
        after = task.fall_out(f"{error_code}: {detail}", self._clock.now())
        await uow.fulfillment.save(after)
        await self._audit(uow, job, "fulfillmentTask.fallOut", task, after)
        return await self._open_case(uow, job, error_code, detail)

    async def _open_case(self, uow: UnitOfWork, job: StepJob, error_code: str, detail: str) -> StepFallout:
        case = FalloutCase(
            self._ids.new(), job.tenant_id, job.order_id, job.step, error_code, detail, self._clock.now()
        )
        if await uow.fulfillment.open_fallout(case):
            log.error(
                "fallout", order_id=str(job.order_id), tenant=job.tenant_id, step=job.step, error_code=error_code,
                detail=detail,
            )  # fmt: skip
        return StepFallout(error_code, detail)

    async def _change_order(
        self, uow: UnitOfWork, job: StepJob, held: _Held, change: OrderChange, *, action: str
    ) -> None:
        """Store an order's change of state with its event and its audit entry."""
        before = held.order
        await uow.orders.save(change.order, change.transition, expected_version=before.version)
        await uow.outbox.append([self._publication.of_order(change.event, held.reference.traceparent)])
        await uow.audit.append(
            AuditEntry(
                audit_id=self._ids.new(),
                actor=job.actor,
                action=action,
                target_type="order",
                target_id=str(change.order.order_id),
                occurred_at=change.transition.occurred_at,
                reason=change.transition.reason,
                before={"state": before.state, "version": before.version},
                after={"state": change.order.state, "version": change.order.version},
            )
        )

    async def _audit(
        self, uow: UnitOfWork, job: StepJob, action: str, before: FulfillmentTask, after: FulfillmentTask
    ) -> None:
        await uow.audit.append(
            AuditEntry(
                audit_id=self._ids.new(),
                actor=job.actor,
                action=action,
                target_type="fulfillmentTask",
                target_id=f"{job.order_id}/{job.step}",
                occurred_at=after.updated_at,
                reason=after.last_error,
                before={"state": before.state},
                after={"state": after.state, "externalReference": after.external_reference},
            )
        )


def _settled(task: FulfillmentTask) -> StepResult | None:
    """What a step that needs no run answers, or None."""
    if task.is_settled:
        return StepDone()
    if task.state is TaskState.FAILED:
        return StepRefused(task.last_error or "refused")
    if task.state is TaskState.FALLOUT:
        return StepFallout("in-fallout", task.last_error or "waits for a person")
    return None


def _suspicion(task: FulfillmentTask) -> _Suspect | None:
    """Whether the step's runs die: then it waits for its turn."""
    is_dying = task.state is TaskState.IN_PROGRESS and task.run_count >= _SUSPECT_RUNS
    return _Suspect() if is_dying else None


def _order_head(order: Order) -> Mapping[str, Any]:
    return {"orderId": str(order.order_id), "tenantId": order.tenant_id}
