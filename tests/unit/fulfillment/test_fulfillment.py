"""Each step has its effect once, whatever is lost; what cannot go on waits for a person."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.adapters.memory.external_system import MemoryExternalSystem
from app.application.fulfillment import StepDone, StepFallout, StepRefused, StepRetry
from app.application.ports import CallDone, CallNotDone, CallRefused, CallUnknown, StoreUnavailable
from app.domain.fulfillment import TaskState, WorkflowState
from app.domain.order import OrderState
from tests.unit.fulfillment.conftest import INSTANCE, PATIENCE, TRACE, Lab

RESERVE = "reserve-inventory"
STEPS = (RESERVE, "provision-service", "activate-billing", "complete-order")
KEY = "test:acme:00000000-0000-0000-0000-0000000000a0:reserve-inventory:1"


class SlowSystem(MemoryExternalSystem):
    """Answers queries when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.answer.set()

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        self.asked.set()
        await self.answer.wait()
        return await super().find(idempotency_key)


async def test_all_steps_complete_the_order_with_one_effect_each(lab: Lab) -> None:
    results = [await lab.run(step) for step in STEPS]

    assert results == [StepDone()] * 4
    assert lab.order_state is OrderState.COMPLETED
    assert [len(system.effects) for system in lab.systems.values()] == [1, 1, 1]
    assert lab.rows.workflow.references[lab.order.order_id].state is WorkflowState.COMPLETED
    assert lab.states == ["inProgress", "completed"]


async def test_each_transition_has_its_event_and_its_audit_entry(lab: Lab) -> None:
    for step in STEPS:
        await lab.run(step)

    assert [(event.aggregate_seq, event.event_type) for event in lab.rows.outbox] == [
        (2, "OrderInProgress"),
        (3, "OrderCompleted"),
    ]
    assert [transition.aggregate_seq for transition in lab.rows.transitions] == [2, 3]
    assert [entry.action for entry in lab.rows.audit if entry.target_type == "order"] == [
        "order.begin",
        "order.complete",
    ]


async def test_a_completed_step_that_is_delivered_again_makes_no_call(lab: Lab) -> None:
    await lab.run(RESERVE)
    again = await lab.run(RESERVE)

    assert again == StepDone()
    assert lab.systems["inventory"].calls == [KEY]
    assert lab.task(RESERVE).run_count == 1


async def test_the_attempt_is_committed_before_the_call(lab: Lab) -> None:
    lab.commits_until_failure = 0

    with pytest.raises(StoreUnavailable):
        await lab.run(RESERVE)

    assert lab.systems["inventory"].calls == []


async def test_death_between_call_and_record_is_resolved_by_a_query(lab: Lab) -> None:
    lab.commits_until_failure = 1
    with pytest.raises(StoreUnavailable):
        await lab.run(RESERVE)
    assert lab.attempt_states(RESERVE) == ["prepared"]

    lab.commits_until_failure = None
    result = await lab.run(RESERVE)

    assert result == StepDone()
    assert lab.systems["inventory"].calls == [KEY]
    assert lab.systems["inventory"].queries == [KEY]
    assert lab.attempt_states(RESERVE) == ["succeeded"]


async def test_death_between_record_and_call_is_resolved_by_a_query_and_a_call_with_the_same_key(lab: Lab) -> None:
    system = lab.systems["inventory"]
    system.next_outcomes = [CallUnknown("killed")]
    system.is_silent = True
    await lab.run(RESERVE)
    system.is_silent = False

    result = await lab.run(RESERVE)

    assert result == StepDone()
    assert system.calls == [KEY, KEY]
    assert len(system.effects) == 1
    assert lab.attempt_states(RESERVE) == ["failed", "succeeded"]


async def test_a_lost_reply_is_asked_for_at_once(lab: Lab) -> None:
    lab.systems["inventory"].lost_replies = 1

    result = await lab.run(RESERVE)

    assert result == StepDone()
    assert lab.systems["inventory"].calls == [KEY]
    assert lab.attempt_states(RESERVE) == ["succeeded"]


async def test_an_unknown_outcome_is_never_followed_by_a_call_before_an_answered_query(lab: Lab) -> None:
    system = lab.systems["inventory"]
    system.lost_replies, system.is_silent = 1, True

    first = await lab.run(RESERVE)
    second = await lab.run(RESERVE)

    assert isinstance(first, StepRetry)
    assert isinstance(second, StepRetry)
    assert system.calls == [KEY]
    assert lab.attempt_states(RESERVE) == ["unknown"]


async def test_a_call_that_was_not_done_is_tried_again_with_the_same_key(lab: Lab) -> None:
    lab.systems["inventory"].next_outcomes = [CallNotDone("connection refused")]

    first = await lab.run(RESERVE)
    second = await lab.run(RESERVE)

    assert first == StepRetry("connection refused", 1)
    assert second == StepDone()
    assert lab.systems["inventory"].calls == [KEY, KEY]
    assert lab.systems["inventory"].queries == []
    assert lab.attempt_states(RESERVE) == ["failed", "succeeded"]


async def test_the_last_allowed_run_falls_out_and_the_order_stays_in_progress(lab: Lab) -> None:
    lab.systems["inventory"].next_outcomes = [CallNotDone("down")] * 3

    results = [await lab.run(RESERVE) for _ in range(3)]

    assert results[2] == StepFallout("runs-exhausted", "down")
    assert lab.task(RESERVE).state is TaskState.FALLOUT
    assert lab.order_state is OrderState.IN_PROGRESS
    assert [case.error_code for case in lab.rows.fulfillment.cases] == ["runs-exhausted"]


async def test_a_step_in_fallout_makes_no_call_when_it_is_delivered_again(lab: Lab) -> None:
    lab.systems["inventory"].next_outcomes = [CallNotDone("down")] * 3
    for _ in range(3):
        await lab.run(RESERVE)

    again = await lab.run(RESERVE)

    assert isinstance(again, StepFallout)
    assert len(lab.systems["inventory"].calls) == 3
    assert len(lab.rows.fulfillment.cases) == 1


async def test_runs_that_died_are_counted(lab: Lab) -> None:
    for _ in range(3):
        lab.commits_until_failure = 1
        with pytest.raises(StoreUnavailable):
            await lab.run(RESERVE)
    lab.commits_until_failure = None

    result = await lab.run(RESERVE)

    assert isinstance(result, StepFallout)
    assert result.error_code == "runs-exhausted"


async def test_the_engines_last_retry_falls_out_too(lab: Lab) -> None:
    lab.systems["inventory"].next_outcomes = [CallNotDone("down")]

    result = await lab.run(RESERVE, retries=1)

    assert isinstance(result, StepFallout)


async def test_a_refused_first_step_fails_the_order(lab: Lab) -> None:
    lab.systems["inventory"].next_outcomes = [CallRefused("no stock", 422)]

    result = await lab.run(RESERVE)
    again = await lab.run(RESERVE)

    assert result == again == StepRefused("no stock")
    assert lab.order_state is OrderState.FAILED
    assert lab.rows.workflow.references[lab.order.order_id].state is WorkflowState.FAILED
    assert [event.event_type for event in lab.rows.outbox] == ["OrderInProgress", "OrderFailed"]
    assert lab.rows.fulfillment.cases == []
    assert lab.states == ["inProgress", "failed"]


async def test_a_refusal_after_an_effect_falls_out_because_something_would_have_to_be_undone(lab: Lab) -> None:
    lab.systems["provisioning"].next_outcomes = [CallRefused("no port", 422)]
    await lab.run(RESERVE)

    result = await lab.run("provision-service")

    assert result == StepFallout("refused", "no port")
    assert lab.order_state is OrderState.IN_PROGRESS


async def test_another_process_instance_is_refused_and_changes_nothing(lab: Lab) -> None:
    await lab.run(RESERVE)

    result = await lab.run("provision-service", process_instance_key=INSTANCE + 1)

    assert isinstance(result, StepFallout)
    assert result.error_code == "foreign-process-instance"
    assert lab.systems["provisioning"].calls == []
    assert lab.task("provision-service").state is TaskState.PENDING


async def test_a_job_of_another_process_version_is_refused_even_as_the_first(lab: Lab) -> None:
    result = await lab.run(RESERVE, process_id="order-fulfillment-v2")

    assert isinstance(result, StepFallout)
    assert result.error_code == "foreign-process-version"
    assert lab.systems["inventory"].calls == []
    assert lab.rows.workflow.references[lab.order.order_id].process_instance_key is None


async def test_a_delivery_that_cannot_be_read_opens_one_case_and_changes_nothing_else(lab: Lab) -> None:
    for _ in range(2):
        result = await lab.fulfillment.refuse(lab.job(RESERVE), "variables-not-understood", "version 9")

    assert result == StepFallout("variables-not-understood", "version 9")
    assert [case.error_code for case in lab.rows.fulfillment.cases] == ["variables-not-understood"]
    assert (lab.order_state, lab.task(RESERVE).state) == (OrderState.ACKNOWLEDGED, TaskState.PENDING)
    assert (
        lab.rows.workflow.references[lab.order.order_id].process_instance_key == INSTANCE
    )  # its incident is looked for there


async def test_the_first_job_proves_that_the_start_arrived(lab: Lab) -> None:
    await lab.run(RESERVE)

    reference = lab.rows.workflow.references[lab.order.order_id]
    assert (reference.state, reference.process_instance_key) == (WorkflowState.STARTED, INSTANCE)


async def test_an_order_that_is_not_the_accepted_one_falls_out_before_any_call(lab: Lab) -> None:
    result = await lab.run(RESERVE, order_hash="f" * 64)

    assert isinstance(result, StepFallout)
    assert result.error_code == "order-changed"
    assert lab.systems["inventory"].calls == []


async def test_an_order_is_not_completed_while_a_step_is_open(lab: Lab) -> None:
    await lab.run(RESERVE)

    result = await lab.run("complete-order")

    assert result == StepFallout("steps-not-completed", "activate-billing, provision-service")
    assert lab.order_state is OrderState.IN_PROGRESS


async def test_a_late_answer_to_an_overtaken_run_completes_nothing_twice(lab: Lab) -> None:
    """A run that was thought dead comes back after its successor has finished the step."""
    await lab.run(RESERVE)
    attempt = next(iter(lab.rows.fulfillment.attempts.values()))

    result = await lab.fulfillment._record(lab.job(RESERVE), attempt, CallNotDone("late"))

    assert result == StepDone()
    assert lab.task(RESERVE).state is TaskState.COMPLETED


async def test_a_call_that_may_not_be_made_yet_counts_no_run(lab: Lab) -> None:
    later = timedelta(seconds=9)
    lab.systems["inventory"].next_outcomes = [CallNotDone("circuit open", retry_after=later)] * 5

    results = [await lab.run(RESERVE, retries=1) for _ in range(5)]

    assert results == [StepRetry("circuit open", 0, later)] * 5
    assert lab.task(RESERVE).run_count == 0
    assert await lab.run(RESERVE) == StepDone()


async def test_work_that_is_accepted_and_never_finished_falls_out_in_the_end(lab: Lab) -> None:
    system, pause = lab.systems["inventory"], timedelta(seconds=9)
    system.next_outcomes = [CallUnknown("accepted as 7, not finished yet", 202, pause)]
    system.is_silent = True
    system.next_answers = [CallUnknown("accepted as 7, not finished yet", 200, pause)] * 3
    await lab.run(RESERVE)
    lab.clock.advance(PATIENCE.total_seconds() - 1)
    assert isinstance(await lab.run(RESERVE), StepRetry)

    lab.clock.advance(1)
    result = await lab.run(RESERVE)

    assert result == StepFallout("put-off-too-long", "accepted as 7, not finished yet")
    assert system.calls == [KEY]


async def test_what_counts_a_run_ends_the_time_of_being_put_off(lab: Lab) -> None:
    system, pause = lab.systems["inventory"], timedelta(seconds=9)
    system.next_outcomes = [CallNotDone("busy", 429, pause), CallNotDone("down"), CallNotDone("busy", 429, pause)]

    await lab.run(RESERVE)
    lab.clock.advance(PATIENCE.total_seconds())
    await lab.run(RESERVE)
    result = await lab.run(RESERVE)

    assert isinstance(result, StepRetry)
    assert result.retry_after == pause


async def test_events_of_fulfillment_belong_to_the_trace_of_the_order(lab: Lab) -> None:
    for step in (RESERVE, "provision-service", "activate-billing", "complete-order"):
        await lab.run(step)

    assert [event.traceparent for event in lab.rows.outbox] == [TRACE, TRACE]


async def test_a_question_that_may_not_be_asked_yet_leaves_the_outcome_unknown(lab: Lab) -> None:
    system = lab.systems["inventory"]
    system.lost_replies, system.is_silent = 1, True
    await lab.run(RESERVE)
    system.next_answers = [CallUnknown("circuit open", retry_after=timedelta(seconds=9))] * 4

    results = [await lab.run(RESERVE) for _ in range(4)]

    assert results == [StepRetry("circuit open", 1, timedelta(seconds=9))] * 4
    assert lab.attempt_states(RESERVE) == ["unknown"]
    assert system.calls == [KEY]


async def test_steps_whose_runs_died_twice_run_one_at_a_time(lab: Lab) -> None:
    """What kills the process takes everything beside it along; apart from each other only the killer is counted."""
    lab.systems["inventory"] = slow = SlowSystem()
    for _ in range(2):  # two processes die
        lab.commits_until_failure = 1
        with pytest.raises(StoreUnavailable):
            await lab.run(RESERVE)
    lab.commits_until_failure = None
    slow.asked.clear()
    slow.answer.clear()

    first, second = asyncio.create_task(lab.run(RESERVE)), asyncio.create_task(lab.run(RESERVE))
    await slow.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)

    assert lab.task(RESERVE).run_count == 3  # and not 4
    slow.answer.set()
    assert await first == await second == StepDone()
