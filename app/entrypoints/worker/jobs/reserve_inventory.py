"""reserve-inventory: the order's first effect outside; until it is done, a refusal fails the order."""

from __future__ import annotations

from app.application.fulfillment import Fulfillment, StepJob, StepResult, reservation

JOB_TYPE = "reserve-inventory"
SYSTEM = "inventory"


async def run(fulfillment: Fulfillment, job: StepJob) -> StepResult:
    """Reserve what the order's items need."""
    return await fulfillment.perform(job, SYSTEM, reservation)
