"""What a person may decide about a step that fell out, and what the step does then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.application.fallout import Decision, FalloutEntry, HeldFallout, cancel, close, complete, retry
from app.application.fulfillment import StepDone, StepFallout
from app.application.ports import CallNotDone, CallOutcome, CallRefused, CallUnknown
from app.application.repair import Repaired, RepairReason, RepairRefusedError
from app.domain.external_calls import ExternalCallAttempt
from app.domain.fulfillment import FulfillmentTask, TaskState
from app.domain.order import OrderState
from app.domain.values import OrderId
from tests.unit.fulfillment.conftest import INSTANCE, Lab

RESERVE, PROVISION = "reserve-inventory", "provision-service"
REASON = RepairReason("ana", "stock was corrected, OPS-17")


@dataclass
class Desk:
    """See `app.application.fallout.FalloutStore`: the rows of a lab."""

    lab: Lab
    decisions: list[tuple[str, str | None, bool]] = field(default_factory=list)
    audited: list[str] = field(default_factory=list)

    async def waiting(self) -> list[FalloutEntry]:
        return [self._entry(case.step) for case in self.lab.rows.fulfillment.cases]

    async def hold(self, order_id: OrderId, step: str) -> HeldFallout | None:
        if not any(case.step == step for case in self.lab.rows.fulfillment.cases):
            return None
        attempts = [each for each in self.lab.rows.fulfillment.attempts.values() if each.step == step]
        attempts.sort(key=lambda each: (each.epoch, each.attempt_no))
        return HeldFallout(self._entry(step), self.lab.order_state, self.lab.task(step), attempts)

    async def awaiting_release(self, order_id: OrderId, step: str) -> FalloutEntry | None:
        return None

    async def save_task(self, task: FulfillmentTask) -> None:
        self.lab.rows.fulfillment.tasks[task.order_id, task.step] = task

    async def save_attempt(self, attempt: ExternalCallAttempt) -> None:
        self.lab.rows.fulfillment.attempts[attempt.attempt_id] = attempt

    async def decide(
        self, fallout_id: UUID, decision: Decision, reason: RepairReason, evidence: str | None, *, is_released: bool
    ) -> None:
        self.decisions.append((decision, evidence, is_released))
        self.lab.rows.fulfillment.cases.clear()

    async def mark_released(self, fallout_id: UUID) -> None:
        raise NotImplementedError

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        self.audited.append(f"{action} {repaired.before['state']} -> {repaired.after['state']}: {reason.text}")

    def _entry(self, step: str) -> FalloutEntry:
        case = next(case for case in self.lab.rows.fulfillment.cases if case.step == step)
        later: dict[str, Any] = dict.fromkeys(
            ("resolved_at", "decision", "decided_by", "decision_reason", "evidence", "engine_released_at", "job_key")
        )
        return FalloutEntry(
            case.fallout_id, case.tenant_id, case.order_id, step, case.error_code, case.detail, "open", case.opened_at,
            process_instance_key=INSTANCE, **later,
        )  # fmt: skip


@pytest.fixture
def desk(lab: Lab) -> Desk:
    return Desk(lab)


async def fall_out(lab: Lab, step: str, *outcomes: CallNotDone | CallRefused | CallUnknown) -> None:
    """Let a step fall out after calls that end so."""
    system = lab.systems["inventory" if step == RESERVE else "provisioning"]
    system.next_outcomes = list(outcomes)
    result: object = None
    for number in range(len(outcomes)):
        result = await lab.run(step, retries=1 if number == len(outcomes) - 1 else 5)
    assert isinstance(result, StepFallout)
    assert lab.task(step).state is TaskState.FALLOUT


async def test_a_retried_step_runs_again_from_its_first_run_under_the_same_key(lab: Lab, desk: Desk) -> None:
    await fall_out(lab, RESERVE, CallNotDone("down"), CallNotDone("down"), CallNotDone("down"))

    await retry(desk, lab.order.order_id, RESERVE, REASON, lab.clock.now(), is_new_epoch=False)
    result = await lab.run(RESERVE)

    assert result == StepDone()
    assert (lab.task(RESERVE).run_count, lab.task(RESERVE).state) == (1, TaskState.COMPLETED)
    assert len(set(lab.systems["inventory"].calls)) == 1
    assert desk.decisions == [("retry", None, False)]
    assert desk.audited == [f"repair.fallout.retry fallout -> pending: {REASON.text}"]


async def test_a_retry_after_an_unknown_outcome_asks_before_it_calls(lab: Lab, desk: Desk) -> None:
    lab.systems["inventory"].is_silent = True
    await fall_out(lab, RESERVE, CallUnknown("no answer in time"))
    lab.systems["inventory"].is_silent = False

    await retry(desk, lab.order.order_id, RESERVE, REASON, lab.clock.now(), is_new_epoch=False)
    before = len(lab.systems["inventory"].queries)
    await lab.run(RESERVE)

    assert len(lab.systems["inventory"].queries) == before + 1
    assert len(lab.systems["inventory"].effects) == 1


async def test_a_new_epoch_is_for_a_system_that_refused_for_good_under_the_old_key(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    await fall_out(lab, PROVISION, CallRefused("no port", 422))

    await retry(desk, lab.order.order_id, PROVISION, REASON, lab.clock.now(), is_new_epoch=True)
    result = await lab.run(PROVISION)

    assert result == StepDone()
    assert [key.rsplit(":", 1)[1] for key in lab.systems["provisioning"].calls] == ["1", "2"]


@pytest.mark.parametrize(
    "last",
    [CallUnknown("no answer in time"), CallNotDone("connection refused"), CallNotDone("nothing was done", 408)],
)
async def test_a_new_epoch_is_refused_where_the_work_may_be_done_or_still_arrive(
    lab: Lab, desk: Desk, last: CallUnknown | CallNotDone
) -> None:
    await lab.run(RESERVE)
    lab.systems["provisioning"].is_silent = True
    await fall_out(lab, PROVISION, last)

    with pytest.raises(RepairRefusedError, match="a new epoch could do the work twice"):
        await retry(desk, lab.order.order_id, PROVISION, REASON, lab.clock.now(), is_new_epoch=True)

    assert desk.audited == []
    assert lab.task(PROVISION).state is TaskState.FALLOUT


async def test_what_was_done_by_hand_is_never_called_again(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    lab.systems["provisioning"].is_silent = True
    await fall_out(lab, PROVISION, CallUnknown("no answer in time"))

    await complete(desk, lab.order.order_id, PROVISION, REASON, lab.clock.now(), reference="port-4711")
    calls = list(lab.systems["provisioning"].calls)
    result = await lab.run(PROVISION)

    assert result == StepDone()
    assert lab.systems["provisioning"].calls == calls
    assert lab.task(PROVISION).external_reference == "port-4711"
    assert lab.attempt_states(PROVISION) == ["succeeded"]
    assert desk.decisions == [("complete", "port-4711", False)]


async def test_an_order_is_completed_without_a_step_that_was_given_up(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    await fall_out(lab, PROVISION, CallRefused("no such service", 422))

    await cancel(desk, lab.order.order_id, PROVISION, REASON, lab.clock.now())
    results = [await lab.run(step) for step in (PROVISION, "activate-billing", "complete-order")]

    assert results == [StepDone()] * 3
    assert lab.order_state is OrderState.COMPLETED
    assert lab.task(PROVISION).state is TaskState.CANCELLED
    assert lab.systems["provisioning"].effects == {}


async def test_a_step_that_may_have_been_done_is_not_given_up(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    lab.systems["provisioning"].is_silent = True
    await fall_out(lab, PROVISION, CallUnknown("no answer in time"))

    with pytest.raises(RepairRefusedError, match="the work may be done"):
        await cancel(desk, lab.order.order_id, PROVISION, REASON, lab.clock.now())


async def test_a_step_that_calls_nobody_can_only_be_retried(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    await lab.run("complete-order")  # too early

    for decide in (
        complete(desk, lab.order.order_id, "complete-order", REASON, lab.clock.now(), reference="x"),
        cancel(desk, lab.order.order_id, "complete-order", REASON, lab.clock.now()),
    ):
        with pytest.raises(RepairRefusedError, match="never called an external system"):
            await decide


async def test_a_case_whose_step_waits_is_not_just_closed(lab: Lab, desk: Desk) -> None:
    await fall_out(lab, RESERVE, CallNotDone("down"))

    with pytest.raises(RepairRefusedError, match="waits for a decision"):
        await close(desk, lab.order.order_id, RESERVE, REASON)


async def test_a_foreign_instances_case_is_closed_and_the_step_goes_on_as_it_was(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    await lab.run(PROVISION, process_instance_key=INSTANCE + 1)
    with pytest.raises(RepairRefusedError, match="is pending and waits for no decision"):
        await retry(desk, lab.order.order_id, PROVISION, REASON, lab.clock.now(), is_new_epoch=False)

    await close(desk, lab.order.order_id, PROVISION, REASON)

    assert desk.decisions == [("close", None, True)]
    assert await lab.run(PROVISION) == StepDone()


async def test_a_step_that_was_done_after_it_fell_out_is_closed_and_its_job_goes_on(lab: Lab, desk: Desk) -> None:
    await lab.run(RESERVE)
    system = lab.systems["provisioning"]
    call = system.call

    async def answer_late(key: str, request: Mapping[str, Any]) -> CallOutcome:
        system.is_silent = True
        assert isinstance(
            await lab.run(PROVISION, retries=1), StepFallout
        )  # the job's next delivery gives up meanwhile
        system.is_silent = False
        return await call(key, request)

    system.call = answer_late  # type: ignore[method-assign, assignment]
    assert await lab.run(PROVISION) == StepDone()
    assert lab.task(PROVISION).state is TaskState.COMPLETED

    await close(desk, lab.order.order_id, PROVISION, REASON)

    assert desk.decisions == [("close", None, False)]  # released by the engine afterwards: its job waits there
    assert await lab.run(PROVISION) == StepDone()


async def test_nothing_is_decided_where_there_is_no_case(lab: Lab, desk: Desk) -> None:
    with pytest.raises(RepairRefusedError, match="no open fallout case"):
        await retry(desk, lab.order.order_id, RESERVE, REASON, lab.clock.now(), is_new_epoch=False)


async def test_a_run_notes_which_process_has_which_job_until_the_order_ends(lab: Lab) -> None:
    await lab.run(RESERVE, job_key=17, retries=3)
    held = lab.rows.fulfillment.jobs[lab.order.order_id, RESERVE]
    assert (held.job_key, held.retries, held.instance_id) == (17, 3, "tests")

    for step in (PROVISION, "activate-billing", "complete-order"):
        lab.clock.advance(timedelta(seconds=1).total_seconds())
        await lab.run(step)

    assert lab.rows.fulfillment.jobs == {}
