"""Between the engine's jobs and the steps of fulfillment: variables in, verdict out, no business in between."""

from __future__ import annotations

from datetime import timedelta

from app.adapters.zeebe.worker import ActivatedJob, CompleteJob, FailJob, ThrowError, Verdict
from app.application.fulfillment import Fulfillment, StepDone, StepFallout, StepJob, StepRefused, StepResult, StepRetry
from app.application.ports import ConcurrentChange, StoreUnavailable
from app.contracts import process_variables
from app.contracts.process_variables import VariablesError, VariablesV2
from app.domain.values import OrderId, TenantId
from app.entrypoints.worker.registry import Step
from app.messaging.retry import Backoff

ORDER_REFUSED = "ORDER_REFUSED"
"""The error code of the boundary event in the BPMN."""

_LONGEST_PAUSE = timedelta(seconds=20)


VARIABLE_NAMES = tuple(sorted(frozenset[str]().union(*map(process_variables.names, process_variables.VERSIONS))))
"""What a job brings along: the variables of every version; an instance has those of its own."""


class JobHandler:
    """Runs one job type's step for one job after the other.

    Args:
        step: the step.
        fulfillment: what it runs on.
        retry_backoff: the pause after a first failure; it grows with each further run.
        retries: runs of a step before it falls out; the engine is told how many are left.
    """

    def __init__(
        self,
        step: Step,
        fulfillment: Fulfillment,
        *,
        retry_backoff: timedelta,
        retries: int,
    ) -> None:
        self._step = step
        self._fulfillment = fulfillment
        self._retry_backoff = retry_backoff
        self._retries = retries
        self._backoff = Backoff(retry_backoff.total_seconds(), _LONGEST_PAUSE.total_seconds())

    async def __call__(self, job: ActivatedJob) -> Verdict:
        try:
            variables = process_variables.read(job.variables)
        except VariablesError as error:
            return FailJob(0, str(error), outcome="fallout")
        step_job = StepJob(
            step=job.type,
            order_id=OrderId(variables.order_id),
            tenant_id=TenantId(variables.tenant_id),
            order_hash=variables.order_hash,
            process_instance_key=job.process_instance_key,
            job_key=job.key,
            retries=job.retries,
            process_id=variables.process_id if isinstance(variables, VariablesV2) else None,
        )
        try:
            return self._verdict(job, await self._step(self._fulfillment, step_job))
        except (StoreUnavailable, ConcurrentChange) as error:
            # Our own trouble, not the step's: it costs the order time and no retry.
            return FailJob(job.retries, f"{type(error).__name__}: {error}", self._retry_backoff, outcome="handed_back")

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
