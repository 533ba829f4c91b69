"""Jobs become steps and results become verdicts; our own trouble costs a job no retry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from app.adapters.zeebe.worker import ActivatedJob, CompleteJob, FailJob, ThrowError, Verdict
from app.application.fulfillment import Fulfillment, StepDone, StepFallout, StepJob, StepRefused, StepResult, StepRetry
from app.application.ports import ConcurrentChange, StoreUnavailable
from app.entrypoints.worker.job_handler import VARIABLE_NAMES, JobHandler

VARIABLES = {
    "orderId": "01a20500-e849-7151-8c2b-404070597727",
    "tenantId": "acme",
    "orderHash": "a" * 64,
    "schemaVersion": 1,
}
BACKOFF = timedelta(seconds=2)
LONGEST = timedelta(seconds=20)


class Refusals:
    """Stands where fulfillment does, for deliveries that reach no step."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    async def refuse(self, job: StepJob, error_code: str, detail: str) -> StepFallout:
        self.orders.append(str(job.order_id))
        return StepFallout(error_code, detail)


async def judge(
    step: Callable[[Fulfillment, StepJob], Awaitable[StepResult]], refusals: Refusals | None = None, **variables: Any
) -> Verdict:
    handler = JobHandler(
        step, cast("Fulfillment", refusals or Refusals()), retry_backoff=BACKOFF, longest_pause=LONGEST, retries=5
    )
    return await handler(ActivatedJob(7, "reserve-inventory", 8, 4, VARIABLES | variables))


def resulting(result: StepResult) -> Callable[[Fulfillment, StepJob], Awaitable[StepResult]]:
    async def step(_: Fulfillment, __: StepJob) -> StepResult:
        return result

    return step


def raising(error: Exception) -> Callable[[Fulfillment, StepJob], Awaitable[StepResult]]:
    async def step(_: Fulfillment, __: StepJob) -> StepResult:
        raise error

    return step


async def test_a_step_gets_what_the_job_says() -> None:
    seen: list[StepJob] = []

    async def step(_: Fulfillment, job: StepJob) -> StepResult:
        seen.append(job)
        return StepDone()

    assert await judge(step) == CompleteJob()
    assert (str(seen[0].order_id), seen[0].tenant_id, seen[0].job_key) == (VARIABLES["orderId"], "acme", 7)
    assert (seen[0].process_instance_key, seen[0].retries) == (8, 4)


async def test_variables_of_version_2_say_which_process_the_job_is_of() -> None:
    seen: list[StepJob] = []

    async def step(_: Fulfillment, job: StepJob) -> StepResult:
        seen.append(job)
        return StepDone()

    await judge(step)
    await judge(step, schemaVersion=2, processId="order-fulfillment-v2")

    assert [job.process_id for job in seen] == [None, "order-fulfillment-v2"]


def test_the_fetched_variables_are_those_of_every_version() -> None:
    assert set(VARIABLE_NAMES) == {*VARIABLES, "processId"}


async def test_a_retry_takes_one_of_the_engines_and_waits_longer_each_time() -> None:
    first, later = await judge(resulting(StepRetry("down", 1))), await judge(resulting(StepRetry("down", 4)))

    assert isinstance(first, FailJob)
    assert isinstance(later, FailJob)
    assert (first.retries, later.retries, first.error) == (4, 1, "down")
    assert BACKOFF / 2 <= first.pause <= BACKOFF
    assert BACKOFF * 4 <= later.pause <= BACKOFF * 8


async def test_no_pause_is_longer_than_what_the_system_is_declared_to_wait() -> None:
    verdicts = [await judge(resulting(StepRetry("down", 30))) for _ in range(20)]

    assert {LONGEST / 2 <= verdict.pause <= LONGEST for verdict in verdicts if isinstance(verdict, FailJob)} == {True}


async def test_what_could_not_even_be_tried_takes_no_retry_and_waits_as_long_as_it_was_told() -> None:
    verdict = await judge(resulting(StepRetry("circuit open", 0, timedelta(seconds=7))))

    assert isinstance(verdict, FailJob)
    assert (verdict.retries, verdict.outcome) == (4, "postponed")
    assert timedelta(seconds=7) <= verdict.pause <= timedelta(seconds=7) + BACKOFF


async def test_fallout_leaves_no_retry() -> None:
    assert await judge(resulting(StepFallout("refused", "no port"))) == FailJob(
        0, "refused: no port", outcome="fallout"
    )


async def test_a_refused_order_is_a_bpmn_error() -> None:
    assert await judge(resulting(StepRefused("no stock"))) == ThrowError("ORDER_REFUSED", "no stock")


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), ConcurrentChange("order")])
async def test_our_own_trouble_hands_the_job_back(error: Exception) -> None:
    verdict = await judge(raising(error))

    assert isinstance(verdict, FailJob)
    assert (verdict.retries, verdict.pause, verdict.outcome) == (4, BACKOFF, "handed_back")


@pytest.mark.parametrize(
    ("variables", "is_named"),
    [
        ({"orderId": "1"}, False),
        ({"tenantId": "A;DROP"}, False),
        ({"orderHash": "x"}, True),
        ({"schemaVersion": None}, True),
        ({"schemaVersion": 2}, True),
        ({"schemaVersion": 3, "carrier": "post"}, True),
        ({"processId": "order-fulfillment-v2"}, True),
        ({"schemaVersion": 2, "processId": "v2"}, True),
    ],
)
async def test_variables_of_another_shape_or_version_reach_no_step_and_a_person_is_told(
    variables: dict[str, Any], is_named: bool
) -> None:
    refusals = Refusals()

    verdict = await judge(raising(AssertionError("called")), refusals, **variables)

    assert isinstance(verdict, FailJob)
    assert (verdict.retries, verdict.outcome) == (0, "fallout")
    assert verdict.error.startswith("variables-not-understood: variables")
    assert refusals.orders == ([VARIABLES["orderId"]] if is_named else [])
