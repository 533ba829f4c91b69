"""Every job type this code can serve; the contract says which group serves it and how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from app.application.fulfillment import Fulfillment, StepJob, StepResult
from app.entrypoints.worker.jobs import activate_billing, complete_order, provision_service, reserve_inventory

Step = Callable[[Fulfillment, StepJob], Awaitable[StepResult]]

JOBS: Mapping[str, Step] = {
    reserve_inventory.JOB_TYPE: reserve_inventory.run,
    provision_service.JOB_TYPE: provision_service.run,
    activate_billing.JOB_TYPE: activate_billing.run,
    complete_order.JOB_TYPE: complete_order.run,
}
