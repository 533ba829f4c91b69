"""Workers against the real engine, database and calls over HTTP: one effect each, whatever is lost or killed."""

from __future__ import annotations

import asyncio

from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

ALL = ["billing", "inventory", "provisioning"]
JOB_TIMEOUT = 30.0
"""The contract's. The engine looks for jobs over their time every 30 s, so a job that was left lying comes again 30 to 60 s
after it was taken."""


async def test_an_order_ends_completed_with_three_effects(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    start_worker("starter")
    worker = start_worker("fulfillment")

    order_id = await orders.place()
    await orders.completed(order_id)

    assert sorted(simulator.effects(order_id)) == ALL
    assert worker.metric('cpq_orders_total{state="completed"}') == 1
    events = await orders.rows(
        "SELECT aggregate_seq, event_type FROM cpq.outbox_event WHERE aggregate_id = %(order_id)s ORDER BY 1", order_id
    )
    transitions = await orders.rows(
        "SELECT aggregate_seq, to_state FROM cpq.order_transition WHERE order_id = %(order_id)s ORDER BY 1", order_id
    )
    assert [event["event_type"] for event in events] == ["OrderAcknowledged", "OrderInProgress", "OrderCompleted"]
    assert [transition["to_state"] for transition in transitions] == ["acknowledged", "inProgress", "completed"]
    assert (await orders.reference(order_id))["state"] == "completed"


async def test_an_attempt_is_older_than_the_request_it_is_for(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    start_worker("starter")
    start_worker("fulfillment")
    order_id = await orders.place()
    await orders.completed(order_id)

    attempts = await orders.rows(
        "SELECT external_system, state FROM cpq.external_call_attempt WHERE order_id = %(order_id)s"
        " ORDER BY prepared_at",
        order_id,
    )

    assert [attempt["external_system"] for attempt in attempts] == simulator.requests(order_id)
    assert {attempt["state"] for attempt in attempts} == {"succeeded"}


async def test_work_done_without_an_answer_has_one_effect(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.behave("provisioning", mode="act-then-timeout", remaining=1)
    simulator.behave("billing", mode="act-then-broken-reply", remaining=1)
    start_worker("starter")
    start_worker("fulfillment", EXTERNAL_TIMEOUT="PT1S")

    order_id = await orders.place()
    await orders.completed(order_id)

    assert sorted(simulator.effects(order_id)) == ALL
    assert sorted(simulator.requests(order_id)) == ALL  # asked, never repeated
    assert await orders.attempts(order_id, "provision-service") == ["succeeded"]


async def test_an_unanswered_question_leaves_the_outcome_unknown_until_it_is_answered(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.behave("inventory", mode="act-then-timeout", methods=["POST", "GET"], remaining=2)
    start_worker("starter")
    start_worker("fulfillment", EXTERNAL_TIMEOUT="PT1S")

    order_id = await orders.place()

    async def is_unknown() -> bool:
        return await orders.attempts(order_id, "reserve-inventory") == ["unknown"]

    await eventually(is_unknown, "the outcome is unknown")
    await orders.completed(order_id)

    assert simulator.requests(order_id).count("inventory") == 1
    assert await orders.attempts(order_id, "reserve-inventory") == ["succeeded"]


async def test_errors_of_a_system_are_waited_out(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.behave("inventory", mode="error", status=503, remaining=2)
    start_worker("starter")
    start_worker("fulfillment")

    order_id = await orders.place()
    await orders.completed(order_id)

    assert await orders.attempts(order_id, "reserve-inventory") == ["failed", "failed", "succeeded"]
    assert sorted(simulator.effects(order_id)) == ALL


async def test_a_step_without_result_falls_out_and_the_order_stays_in_progress(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.behave("billing", mode="error", status=500)
    start_worker("starter")
    worker = start_worker("fulfillment", WORKER_MAX_RUNS="2")

    order_id = await orders.place()

    async def is_in_fallout() -> bool:
        cases = await orders.rows("SELECT * FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
        return [(case["step"], case["error_code"]) for case in cases] == [("activate-billing", "runs-exhausted")]

    await eventually(is_in_fallout, "a fallout case is open")

    async def is_settled() -> bool:
        return worker.metric('cpq_worker_jobs_total{job_type="activate-billing",outcome="fallout"}') == 1

    await eventually(is_settled, "the job is left failed")
    assert await orders.state(order_id) == "inProgress"
    assert simulator.requests(order_id).count("billing") == 2


async def test_a_refused_first_step_fails_the_order_and_ends_its_process(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.behave("inventory", mode="error", status=422, remaining=1)
    start_worker("starter")
    worker = start_worker("fulfillment")

    order_id = await orders.place()

    async def is_failed() -> bool:
        return await orders.state(order_id) == "failed"

    await eventually(is_failed, "the order failed")

    async def is_thrown() -> bool:
        return worker.metric('cpq_worker_jobs_total{job_type="reserve-inventory",outcome="refused"}') == 1

    await eventually(is_thrown, "the engine took the BPMN error")
    assert simulator.effects(order_id) == []
    assert (await orders.reference(order_id))["state"] == "failed"


async def test_a_stop_under_load_loses_nothing_and_does_nothing_twice(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    for system in ("inventory", "provisioning", "billing"):
        simulator.behave(system, latency="PT0.7S")
    start_worker("starter")
    worker = start_worker("fulfillment")
    order_ids = [await orders.place() for _ in range(12)]

    async def is_busy() -> bool:
        return len([system for order_id in order_ids for system in simulator.requests(order_id)]) >= len(order_ids)

    await eventually(is_busy, "calls are under way")
    worker.terminate()
    assert worker.wait() == 0
    assert "draining" in worker.log
    start_worker("fulfillment", APP_INSTANCE_ID="tests-fulfillment-2")
    # Sooner than any job's time-out: nothing was taken and left lying.
    await orders.completed(*order_ids, seconds=JOB_TIMEOUT - 5)

    for order_id in order_ids:
        assert sorted(simulator.requests(order_id)) == ALL
        assert sorted(simulator.effects(order_id)) == ALL
    runs = [
        row["run_count"]
        for order_id in order_ids
        for row in await orders.rows("SELECT * FROM cpq.fulfillment_task WHERE order_id = %(order_id)s", order_id)
    ]
    assert set(runs) == {1}


async def test_what_does_not_end_in_time_is_handed_back_at_once(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    """A step that waits for its next run does not hold up a stop, and costs no job time-out."""
    simulator.behave("inventory", mode="error", status=503, remaining=1)
    start_worker("starter")
    worker = start_worker("fulfillment")
    order_id = await orders.place()

    async def is_waiting() -> bool:
        return await orders.attempts(order_id, "reserve-inventory") == ["failed"]

    await eventually(is_waiting, "the first run failed and waits for the next")
    worker.terminate()
    assert worker.wait(10) == 0
    start_worker("fulfillment", APP_INSTANCE_ID="tests-fulfillment-2")
    await orders.completed(order_id, seconds=JOB_TIMEOUT / 2)

    assert sorted(simulator.effects(order_id)) == ALL


async def test_workers_return_by_themselves_when_the_engine_does(
    orders: Orders, start_worker: StartWorker, simulator: Simulator, engine_proxy: TcpProxy
) -> None:
    start_worker("starter")
    worker = start_worker("fulfillment")
    first = await orders.place()
    await orders.completed(first)

    engine_proxy.is_refusing = True
    assert worker.wait_for("STATUS=the engine does not answer", 15)
    second = await orders.place()
    await asyncio.sleep(3)
    engine_proxy.is_refusing = False
    await orders.completed(second)

    assert sorted(simulator.effects(second)) == ALL


async def test_external_systems_that_restart_keep_what_they_did(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    start_worker("starter")
    worker = start_worker("fulfillment")
    first = await orders.place()
    await orders.completed(first)

    simulator.process.kill()
    second = await orders.place()

    async def is_waiting() -> bool:
        return await orders.attempts(second, "reserve-inventory") == ["failed"]

    await eventually(is_waiting, "the connection was refused")
    simulator.start()
    await orders.completed(second)

    assert sorted(simulator.effects(first)) == ALL
    assert sorted(simulator.effects(second)) == ALL
    assert worker.metric('cpq_external_calls_total{outcome="not_done",system="inventory"}') >= 1
