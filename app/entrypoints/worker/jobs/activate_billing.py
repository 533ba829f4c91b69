"""activate-billing: from here on the customer pays, at the order's price."""

from __future__ import annotations

from app.application.fulfillment import Fulfillment, StepJob, StepResult, subscription

JOB_TYPE = "activate-billing"
SYSTEM = "billing"


async def run(fulfillment: Fulfillment, job: StepJob) -> StepResult:
    """Begin to charge for the order."""
    return await fulfillment.perform(job, SYSTEM, subscription)
