"""Between the engine's jobs and the steps of fulfillment: variables in, verdict out, no business in between."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import msgspec

from app.adapters.zeebe.worker import ActivatedJob, CompleteJob, FailJob, ThrowError, Verdict
from app.application.fulfillment import Fulfillment, StepDone, StepFallout, StepJob, StepRefused, StepResult, StepRetry
from app.application.ports import ConcurrentChange, StoreUnavailable
from app.domain.values import OrderId, TenantId
from app.entrypoints.worker.registry import Step
from app.messaging.retry import Backoff

ORDER_REFUSED = "ORDER_REFUSED"
"""The error code of the boundary event in the BPMN."""

_LONGEST_PAUSE = timedelta(seconds=20)


class Variables(msgspec.Struct, rename="camel", frozen=True):
    """The process's variables, version 1 (app/contracts/variables)."""

    order_id: UUID
    tenant_id: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{1,62}$")]
    order_hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    schema_version: int


VARIABLE_NAMES = tuple(field.encode_name for field in msgspec.structs.fields(Variables))


class JobHandler:
    """Runs one job type's step for one job after the other.

    Args:
        step: the step.
        fulfillment: what it runs on.
        retry_backoff: the pause after a first failure; it grows with each further run.
        variables_schema_version: the version this code understands.
    """

    def __init__(
        self, step: Step, fulfillment: Fulfillment, retry_backoff: timedelta, variables_schema_version: int
    ) -> None:
        self._step = step
        self._fulfillment = fulfillment
        self._retry_backoff = retry_backoff
        self._backoff = Backoff(retry_backoff.total_seconds(), _LONGEST_PAUSE.total_seconds())
        self._variables_schema_version = variables_schema_version

    async def __call__(self, job: ActivatedJob) -> Verdict:
        try:
            variables = msgspec.convert(job.variables, Variables)
        except msgspec.ValidationError as error:
            return FailJob(0, f"variables are not of their schema: {error}", outcome="fallout")
        if variables.schema_version != self._variables_schema_version:
            return FailJob(0, f"variables are of version {variables.schema_version}", outcome="fallout")
        step_job = StepJob(
            step=job.type,
            order_id=OrderId(variables.order_id),
            tenant_id=TenantId(variables.tenant_id),
            order_hash=variables.order_hash,
            process_instance_key=job.process_instance_key,
            job_key=job.key,
            retries=job.retries,
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
            case StepRetry(error=error, run_count=run_count):
                return FailJob(job.retries - 1, error, timedelta(seconds=self._backoff.delay(run_count)))
            case StepFallout(error_code=code, detail=detail):
                # No retries: the engine opens an incident, which a person resolves with the fallout case.
                return FailJob(0, f"{code}: {detail}", outcome="fallout")
            case StepRefused(detail=detail):
                return ThrowError(ORDER_REFUSED, detail)
