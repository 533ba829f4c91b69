"""provision-service: the services that the order's items stand for."""

from __future__ import annotations

from app.application.fulfillment import Fulfillment, StepJob, StepResult, activation

JOB_TYPE = "provision-service"
SYSTEM = "provisioning"


async def run(fulfillment: Fulfillment, job: StepJob) -> StepResult:
    """Activate the order's services."""
    return await fulfillment.perform(job, SYSTEM, activation)
