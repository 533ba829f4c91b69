"""Between the engine's jobs and the steps of fulfillment: variables in, verdict out, no business in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from app.adapters.zeebe.worker import ActivatedJob, CompleteJob, FailJob, ThrowError, Verdict
from app.application.fulfillment import Fulfillment, StepDone, StepFallout, StepJob, StepRefused, StepResult, StepRetry
from app.application.ports import ConcurrentChange, StoreUnavailable
from app.contracts import process_variables
from app.contracts.process_variables import VariablesError, VariablesV2
from app.domain.values import OrderId, TenantId
from app.entrypoints.worker.registry import Step
from app.messaging.retry import Backoff
from app.runtime.logging import get_logger
from app.runtime.tracing import late_span, tag

log = get_logger(__name__)

ORDER_REFUSED = "ORDER_REFUSED"
"""The error code of the boundary event in the BPMN."""

NOT_UNDERSTOOD = "variables-not-understood"
"""The fallout code of a job whose variables are of a version, or a shape, that this release does not serve."""

VARIABLE_NAMES = tuple(sorted(frozenset[str]().union(*map(process_variables.names, process_variables.VERSIONS))))
"""What a job brings along: the variables of every version; an instance has those of its own."""


class JobHandler:
    """Runs one job type's step for one job after the other.

    Args:
        step: the step.
        fulfillment: what it runs on.
        retry_backoff: the pause after a first failure; it grows with each further run,
        longest_pause: up to this.
        retries: runs of a step before it falls out; the engine is told how many are left.
    """

    def __init__(
        self,
        step: Step,
        fulfillment: Fulfillment,
        *,
        retry_backoff: timedelta,
        longest_pause: timedelta,
        retries: int,
    ) -> None:
        self._step = step
        self._fulfillment = fulfillment
        self._retry_backoff = retry_backoff
        self._retries = retries
        self._backoff = Backoff(retry_backoff.total_seconds(), longest_pause.total_seconds())

    async def __call__(self, job: ActivatedJob) -> Verdict:
        """Run the step as a span of the trace in which the order was made, as far as the order is found."""
        attributes: dict[str, str | int] = {"cpq.job_type": job.type, "cpq.job_key": job.key}
        with late_span(f"job {job.type}", "consumer", attributes=attributes):
            verdict = await self._answer(job)
            tag(outcome=verdict.outcome)
            log.info("job", job_type=job.type, job_key=job.key, outcome=verdict.outcome)
            return verdict

    async def _answer(self, job: ActivatedJob) -> Verdict:
        try:
            return self._verdict(job, await self._run(job))
        except (StoreUnavailable, ConcurrentChange) as error:
            # Our own trouble, not the step's: it costs the order time and no retry.
            log.warning("job not answered", job_type=job.type, job_key=job.key, error=str(error))
            return FailJob(job.retries, f"{type(error).__name__}: {error}", self._retry_backoff, outcome="handed_back")

    async def _run(self, job: ActivatedJob) -> StepResult:
        try:
            variables = process_variables.read(job.variables)
        except VariablesError as error:
            return await self._refuse(job, str(error))
        structlog.contextvars.bind_contextvars(order_id=str(variables.order_id), tenant=variables.tenant_id)
        step_job = _step_job(job, variables.order_id, variables.tenant_id, order_hash=variables.order_hash)
        if isinstance(variables, VariablesV2):
            step_job = replace(step_job, process_id=variables.process_id)
        return await self._step(self._fulfillment, step_job)

    async def _refuse(self, job: ActivatedJob, detail: str) -> StepResult:
        """No step for variables that this release does not understand: a person looks, with the order where there is one."""
        subject = process_variables.subject(job.variables)
        if subject is None:
            return StepFallout(NOT_UNDERSTOOD, detail)
        return await self._fulfillment.refuse(_step_job(job, *subject, order_hash=""), NOT_UNDERSTOOD, detail)

    def _verdict(self, job: ActivatedJob, result: StepResult) -> Verdict:
        match result:
            case StepDone():
                return CompleteJob()
            case StepRetry(error=error, retry_after=timedelta() as retry_after):
                # Somewhat later than that, so that those who wait do not all come at once.
                pause = retry_after + timedelta(seconds=self._backoff.delay(1))
                return FailJob(job.retries, error, pause, outcome="postponed")
            case StepRetry(error=error, run_count=run_count):
                # The engine's count follows ours, which has the crashed runs too.
                left = max(1, self._retries - run_count)
                return FailJob(left, error, timedelta(seconds=self._backoff.delay(run_count)))
            case StepFallout(error_code=code, detail=detail):
                # No retries: the engine opens an incident, which a person resolves with the fallout case.
                return FailJob(0, f"{code}: {detail}", outcome="fallout")
            case StepRefused(detail=detail):
                return ThrowError(ORDER_REFUSED, detail)


def _step_job(job: ActivatedJob, order_id: UUID, tenant_id: str, *, order_hash: str) -> StepJob:
    return StepJob(
        step=job.type,
        order_id=OrderId(order_id),
        tenant_id=TenantId(tenant_id),
        order_hash=order_hash,
        process_instance_key=job.process_instance_key,
        job_key=job.key,
        retries=job.retries,
    )
