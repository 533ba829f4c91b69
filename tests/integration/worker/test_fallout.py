"""From fallout to a completed order by an operator's commands, through the real engine's incident."""

from __future__ import annotations

from pathlib import Path

from app.domain.values import OrderId
from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.operator import Operator
from tests.support.services import Services
from tests.support.waiting import eventually

REASON = ("--reason", "seen by hand and settled, OPS-17")


async def fallen_out(orders: Orders, order_id: OrderId, step: str) -> None:
    async def is_open() -> bool:
        cases = await orders.rows("SELECT * FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
        return [(case["step"], case["state"]) for case in cases] == [(step, "open")]

    await eventually(is_open, f"{step} of order {order_id} is in fallout")


async def test_an_operator_brings_orders_from_fallout_to_completed(
    orders: Orders, start_worker: StartWorker, simulator: Simulator, operator: Operator
) -> None:
    start_worker("starter")
    start_worker("fulfillment", WORKER_MAX_RUNS="1")
    simulator.behave("provisioning", mode="error", status=422, remaining=1)
    refused = await orders.place()
    await fallen_out(orders, refused, "provision-service")
    simulator.behave("provisioning", mode="error", status=500, remaining=1)
    by_hand = await orders.place()
    await fallen_out(orders, by_hand, "provision-service")
    simulator.behave("billing", mode="error", status=503, remaining=1)
    retried = await orders.place()
    await fallen_out(orders, retried, "activate-billing")

    listed = await operator.run("fallout", "list")
    waiting = {(case["order_id"], case["waits_for"]) for case in listed.data["cases"]}
    assert waiting >= {(order_id, "a decision") for order_id in (refused, by_hand, retried)}
    shown = await operator.run("fallout", "show", str(refused))
    assert [call["state"] for call in shown.data["calls"]["provision-service"]] == ["failed"]
    diagnosis = await operator.run("diagnose")
    assert diagnosis.data["postgresql"]["open_fallout"] >= 3

    early = await operator.run("fallout", "retry", str(by_hand), "provision-service", "--new-epoch", *REASON)
    assert early.exit_code == 1
    assert "a new epoch could do the work twice" in early.problems[0]
    done = [
        await operator.run("fallout", "cancel-step", str(refused), "provision-service", *REASON),
        await operator.run(
            "fallout", "complete", str(by_hand), "provision-service", "--reference", "port-4711", *REASON
        ),
        await operator.run("fallout", "retry", str(retried), "activate-billing", *REASON),
    ]
    assert [(outcome.exit_code, outcome.problems) for outcome in done] == [(0, ())] * 3
    await orders.completed(refused, by_hand, retried)

    assert sorted(simulator.effects(refused)) == ["billing", "inventory"]
    assert sorted(simulator.effects(by_hand)) == ["billing", "inventory"]
    assert sorted(simulator.effects(retried)) == ["billing", "inventory", "provisioning"]
    for order_id, decision in ((refused, "cancel"), (by_hand, "complete"), (retried, "retry")):
        case = await orders.row("SELECT * FROM cpq.fallout_case WHERE order_id = %(order_id)s", order_id)
        assert (case["state"], case["decision"], case["decided_by"]) == ("resolved", decision, "ana")
        assert case["engine_released_at"] is not None
        entries = await orders.rows(
            "SELECT actor, action, reason FROM cpq.audit_entry"
            " WHERE target_id LIKE %(order_id)s::text || '/%%' AND action LIKE 'repair.%%'",
            order_id,
        )
        assert entries == [
            {"actor": "operator:ana", "action": f"repair.fallout.{decision}", "reason": REASON[1]},
        ]
    still = await operator.run("fallout", "list")
    assert not {case["order_id"] for case in still.data["cases"]} & {refused, by_hand, retried}


async def test_a_decision_made_while_the_engine_is_away_is_carried_out_later(
    orders: Orders, start_worker: StartWorker, simulator: Simulator, services: Services, tmp_path: Path
) -> None:
    start_worker("starter")
    start_worker("fulfillment", WORKER_MAX_RUNS="1")
    simulator.behave("billing", mode="error", status=503, remaining=1)
    order_id = await orders.place()
    await fallen_out(orders, order_id, "activate-billing")
    nowhere = Operator(services, tmp_path, changes={"CAMUNDA_GRPC_ADDRESS": "127.0.0.1:1"})

    decided = await nowhere.run("fallout", "retry", str(order_id), "activate-billing", *REASON)

    assert decided.exit_code == 1
    assert f"cpq-oms-admin fallout release {order_id} activate-billing" in decided.problems[0]
    listed = await nowhere.run("fallout", "list")
    assert [case["waits_for"] for case in listed.data["cases"] if case["order_id"] == order_id] == [
        "the engine, after retry"
    ]
    released = await Operator(services, tmp_path).run("fallout", "release", str(order_id), "activate-billing")
    assert released.exit_code == 0
    await orders.completed(order_id)
    assert sorted(simulator.effects(order_id)) == ["billing", "inventory", "provisioning"]
