"""Workers killed at every moment of a step, by SIGKILL: one effect each, and nobody waits for the engine's time-out."""

from __future__ import annotations

from tests.integration.worker.conftest import Orders, Simulator, StartWorker
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

ALL = ["billing", "inventory", "provisioning"]
JOB_TIMEOUT = 30.0
"""The contract's: until then the engine gives the job of a dead process to nobody by itself."""


async def test_a_kill_at_any_moment_of_a_step_leaves_one_effect_and_the_next_life_goes_on_at_once(
    orders: Orders, start_worker: StartWorker, simulator: Simulator, engine_proxy: TcpProxy
) -> None:
    """Three orders die with one worker: before the call arrives, between effect and record, and between record and engine."""
    with TcpProxy(f"127.0.0.1:{simulator.port}") as inventory:
        start_worker("starter")
        worker = start_worker(
            "fulfillment", EXTERNAL_TIMEOUT="PT8S", INVENTORY_URL=f"http://{inventory.address}/inventory"
        )
        simulator.behave("billing", latency="PT3S")
        recorded = await orders.place()

        async def is_charged() -> bool:
            return "billing" in simulator.requests(recorded)

        await eventually(is_charged, "billing works on the first order")
        simulator.behave("provisioning", mode="act-then-timeout", methods=["POST", "GET"], remaining=2)
        done = await orders.place()

        async def is_provisioned() -> bool:
            return "provisioning" in simulator.effects(done)

        await eventually(is_provisioned, "provisioning did its work for the second order and says nothing")
        inventory.is_holding_requests = True
        inventory.cut()  # so that no reply of a former request is under way
        sent = await orders.place()

        async def is_prepared() -> bool:
            return await orders.attempts(sent, "reserve-inventory") == ["prepared"]

        await eventually(is_prepared, "the third order's call is written down")
        engine_proxy.is_holding_requests = True

        async def is_recorded() -> bool:
            return await orders.attempts(recorded, "activate-billing") == ["succeeded"]

        await eventually(is_recorded, "billing's answer is written down; the engine does not hear of it")
        worker.kill()
    engine_proxy.cut()
    engine_proxy.is_holding_requests = False
    assert "inventory" not in simulator.requests(sent)
    assert await orders.state(recorded) == "inProgress"

    successor = start_worker("fulfillment", EXTERNAL_TIMEOUT="PT8S")
    await orders.completed(sent, done, recorded, seconds=JOB_TIMEOUT)

    assert successor.log.count("handed back what a former life held") >= 3
    for order_id in (sent, done, recorded):
        assert sorted(simulator.effects(order_id)) == ALL
        assert sorted(simulator.requests(order_id)) == ALL
    assert simulator.requests(sent, "GET") == ["inventory"]  # asked first, then called under the same key
    assert await orders.attempts(sent, "reserve-inventory") == ["failed", "succeeded"]
    assert await orders.attempts(done, "provision-service") == ["succeeded"]
    assert await orders.attempts(recorded, "activate-billing") == ["succeeded"]


async def test_a_step_that_kills_its_worker_falls_out_while_other_orders_flow(
    orders: Orders, start_worker: StartWorker, simulator: Simulator
) -> None:
    """The engine counts no crash: without our own count it would hand the job out for ever."""
    start_worker("starter")
    runs, others = 3, []
    poison = await orders.place()
    for life in range(1, runs + 1):
        simulator.behave("inventory", mode="hang", methods=["POST"], remaining=1)
        worker = start_worker("fulfillment", WORKER_MAX_RUNS=str(runs), EXTERNAL_TIMEOUT="PT8S")

        async def is_called(life: int = life) -> bool:
            return len(simulator.requests(poison)) == life

        await eventually(is_called, f"the step is called for the {life}. time")
        others.append(await orders.place())
        await orders.completed(others[-1])
        worker.kill()
    start_worker("fulfillment", WORKER_MAX_RUNS=str(runs), EXTERNAL_TIMEOUT="PT8S")

    async def is_in_fallout() -> bool:
        cases = await orders.rows("SELECT * FROM cpq.fallout_case WHERE order_id = %(order_id)s", poison)
        return [(case["step"], case["error_code"]) for case in cases] == [("reserve-inventory", "runs-exhausted")]

    await eventually(is_in_fallout, "the step is in fallout", JOB_TIMEOUT)
    assert await orders.state(poison) == "inProgress"
    assert simulator.effects(poison) == []
    for order_id in others:
        assert sorted(simulator.requests(order_id)) == ALL
