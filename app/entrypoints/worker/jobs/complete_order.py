"""complete-order: every other step is done."""

from __future__ import annotations

from app.application.fulfillment import Fulfillment, StepJob, StepResult

JOB_TYPE = "complete-order"


async def run(fulfillment: Fulfillment, job: StepJob) -> StepResult:
    """Move the order to completed."""
    return await fulfillment.complete_order(job)
