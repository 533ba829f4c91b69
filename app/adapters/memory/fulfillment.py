"""Fulfillment tasks, call attempts and fallout cases in memory, for one transaction at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.application.ports import ConcurrentChange
from app.domain.external_calls import ExternalCallAttempt
from app.domain.fulfillment import FalloutCase, FulfillmentTask, HeldJob
from app.domain.values import OrderId


@dataclass
class FulfillmentRows:
    """The rows; a unit of work copies them when it begins and puts its copy in place when it commits."""

    tasks: dict[tuple[OrderId, str], FulfillmentTask] = field(default_factory=dict)
    attempts: dict[UUID, ExternalCallAttempt] = field(default_factory=dict)
    cases: list[FalloutCase] = field(default_factory=list)
    jobs: dict[tuple[OrderId, str], HeldJob] = field(default_factory=dict)

    def copy(self) -> FulfillmentRows:
        """A copy that can be changed without changing these."""
        return FulfillmentRows(dict(self.tasks), dict(self.attempts), list(self.cases), dict(self.jobs))


class MemoryFulfillmentRepository:
    """See `app.application.ports.FulfillmentRepository`."""

    def __init__(self, rows: FulfillmentRows) -> None:
        self._rows = rows

    async def add(self, tasks: Sequence[FulfillmentTask]) -> None:
        self._rows.tasks |= {(task.order_id, task.step): task for task in tasks}

    async def tasks(self, order_id: OrderId) -> list[FulfillmentTask]:
        own = [task for task in self._rows.tasks.values() if task.order_id == order_id]
        return sorted(own, key=lambda task: task.step)

    async def save(self, task: FulfillmentTask) -> None:
        self._rows.tasks[task.order_id, task.step] = task

    async def begin(self, task: FulfillmentTask, job: HeldJob) -> None:
        await self.save(task)
        self._rows.jobs[job.order_id, job.step] = job

    async def forget_jobs(self, order_id: OrderId) -> None:
        self._rows.jobs = {key: job for key, job in self._rows.jobs.items() if job.order_id != order_id}

    async def last_attempt(self, order_id: OrderId, step: str) -> ExternalCallAttempt | None:
        own = [
            attempt for attempt in self._rows.attempts.values() if attempt.order_id == order_id and attempt.step == step
        ]
        return max(own, key=lambda attempt: (attempt.epoch, attempt.attempt_no), default=None)

    async def add_attempt(self, attempt: ExternalCallAttempt) -> None:
        last = await self.last_attempt(attempt.order_id, attempt.step)
        if last is not None and (last.epoch, last.attempt_no) >= (attempt.epoch, attempt.attempt_no):
            raise ConcurrentChange("external call attempt")
        self._rows.attempts[attempt.attempt_id] = attempt

    async def save_attempt(self, attempt: ExternalCallAttempt) -> None:
        self._rows.attempts[attempt.attempt_id] = attempt

    async def open_fallout(self, case: FalloutCase) -> bool:
        if any((other.order_id, other.step) == (case.order_id, case.step) for other in self._rows.cases):
            return False
        self._rows.cases.append(case)
        return True
