"""One process instance per order, however often its start is repeated; without the engine, orders wait."""

from __future__ import annotations

from dataclasses import replace

from app.application.workflow_start import LEASE
from app.domain.fulfillment import WorkflowState, order_hash
from tests.unit.fulfillment.conftest import PROCESS, TENANT, Lab


def state(lab: Lab) -> WorkflowState:
    return lab.rows.workflow.references[lab.order.order_id].state


async def test_a_due_reference_becomes_one_instance_with_ids_and_hashes_only(lab: Lab) -> None:
    await lab.starter.run_pass()

    assert list(lab.engine.instances.values()) == [
        {
            "orderId": str(lab.order.order_id),
            "tenantId": "acme",
            "orderHash": order_hash(lab.order),
            "schemaVersion": 1,
        }
    ]
    assert state(lab) is WorkflowState.STARTED
    assert lab.starts == ["started"]


async def test_a_lost_reply_is_followed_by_the_same_message_and_one_instance(lab: Lab) -> None:
    lab.engine.lost_replies = 1
    first = await lab.starter.run_pass()
    assert (first.engine_problem, state(lab)) == ("no answer in time", WorkflowState.PENDING)

    lab.clock.advance(1)
    await lab.starter.run_pass()

    assert len(lab.engine.instances) == 1
    assert state(lab) is WorkflowState.STARTED
    assert lab.starts == ["failed", "already_started"]


async def test_with_the_engine_away_the_order_waits_and_then_starts(lab: Lab) -> None:
    lab.engine.is_away = True
    for _ in range(5):
        result = await lab.starter.run_pass()
        lab.clock.advance(11)
        assert result.engine_problem == "away"
    assert state(lab) is WorkflowState.PENDING

    lab.engine.is_away = False
    await lab.starter.run_pass()

    assert state(lab) is WorkflowState.STARTED


async def test_a_starter_that_dies_after_its_claim_costs_the_lease_and_no_more(lab: Lab) -> None:
    lab.commits_until_failure = 1  # the claim; then the database is gone
    result = await lab.starter.run_pass()
    assert result.database_problem == "gone"
    assert len(lab.engine.instances) == 1
    lab.commits_until_failure = None

    assert (await lab.starter.run_pass()).attempted == 0
    lab.clock.advance(LEASE.total_seconds())
    await lab.starter.run_pass()

    assert len(lab.engine.instances) == 1
    assert lab.starts == ["already_started"]


async def test_a_process_that_is_not_deployed_is_not_published_to(lab: Lab) -> None:
    lab.rows.workflow.deployed.clear()
    await lab.starter.run_pass()
    assert lab.engine.instances == {}
    assert lab.rows.workflow.errors[lab.order.order_id] == f"process {PROCESS} is not deployed"

    lab.rows.workflow.deployed.add(PROCESS)
    lab.clock.advance(6)
    await lab.starter.run_pass()

    assert state(lab) is WorkflowState.STARTED


async def test_a_refused_message_is_kept_for_a_person_and_does_not_stop_the_others(lab: Lab) -> None:
    lab.engine.is_refusing = True

    result = await lab.starter.run_pass()

    assert result.problem is None
    assert lab.rows.workflow.errors[lab.order.order_id] == "refused"


async def test_an_instance_of_version_2_of_the_variables_says_which_process_it_is(lab: Lab) -> None:
    lab.rows.workflow.references[lab.order.order_id] = replace(
        lab.rows.workflow.references[lab.order.order_id], variables_schema_version=2
    )

    await lab.starter.run_pass()

    [variables] = lab.engine.instances.values()
    assert (variables["schemaVersion"], variables["processId"]) == (2, PROCESS)


async def test_variables_of_a_version_that_this_release_does_not_know_start_nothing(lab: Lab) -> None:
    lab.rows.workflow.references[lab.order.order_id] = replace(
        lab.rows.workflow.references[lab.order.order_id], variables_schema_version=9
    )

    await lab.starter.run_pass()

    assert lab.engine.instances == {}
    assert "variables schema version 9" in lab.rows.workflow.errors[lab.order.order_id]


async def test_the_flag_makes_a_tenants_orders_wait(lab: Lab) -> None:
    lab.tenants_off.add(TENANT)
    await lab.starter.run_pass()
    assert lab.engine.instances == {}

    lab.tenants_off.clear()
    await lab.starter.run_pass()

    assert len(lab.engine.instances) == 1


async def test_a_job_that_came_before_the_mark_keeps_its_instance(lab: Lab) -> None:
    await lab.run("reserve-inventory")

    assert (await lab.starter.run_pass()).attempted == 0
    assert lab.engine.instances == {}
