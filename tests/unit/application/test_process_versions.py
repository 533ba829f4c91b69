"""Routes only to what is deployed and served; versions end only when nothing can reach them; releases drop nothing reached."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.adapters.memory.process_store import MemoryProcessStore
from app.application.process_versions import (
    ROUTE_GRACE,
    EngineInstance,
    EngineProcess,
    EngineView,
    LiveReferences,
    LiveWorker,
    ProcessDeployment,
    ProcessRefusedError,
    dropped,
    reached,
    remove_route,
    retire,
    set_route,
    status,
)
from app.application.repair import RepairReason
from app.contracts.loader import load_processes
from app.domain.order import OrderType
from app.domain.process_route import ProcessRoute
from app.domain.values import TenantId
from tests.support.builders import NOON

V1, V2 = "order-fulfillment-v1", "order-fulfillment-v2"
DECLARED = load_processes()
JOB_TYPES = list(DECLARED.processes[V1].job_types)
REASON = RepairReason("ana", "rollout, CHG-4711")
ORDER = UUID(int=0xA0)


def deployment(version: int, **changes: Any) -> ProcessDeployment:
    values: dict[str, Any] = {
        "process_id": f"order-fulfillment-v{version}",
        "content_sha256": f"{version}" * 64,
        "engine_version": 1,
        "engine_key": 100 + version,
        "job_types": JOB_TYPES,
        "variables_schema_version": version,
        "compatible_worker_release": "cpq-oms-2026.11.22-001",
        "git_commit": "c0ffee",
        "release_id": "cpq-oms-2026.11.22-007",
        "deployed_at": NOON,
    }
    return ProcessDeployment(**values | changes)


def worker(**changes: Any) -> LiveWorker:
    values: dict[str, Any] = {
        "instance_id": "worker-1",
        "worker_group": "fulfillment",
        "job_types": JOB_TYPES,
        "variables_schema_versions": [1, 2],
        "release_id": "cpq-oms-2026.11.22-007",
    }
    return LiveWorker(**values | changes)


def route(number: int, process_id: str = V2, **changes: Any) -> ProcessRoute:
    values: dict[str, Any] = {
        "route_id": UUID(int=number),
        "business_process": process_id.rpartition("-v")[0],
        "process_id": process_id,
        "priority": 10,
        "valid_from": NOON,
    }
    return ProcessRoute(**values | changes)


@pytest.fixture
async def store() -> MemoryProcessStore:
    """Both versions deployed and served, every order routed to the first."""
    store = MemoryProcessStore(NOON, [deployment(1), deployment(2)], [worker()], tenants={"acme"})
    await store.add_route(route(1, V1, priority=0), REASON)
    return store


async def test_a_route_to_a_served_version_counts_from_then_on(store: MemoryProcessStore) -> None:
    wanted = route(2, tenant_id=TenantId("acme"), order_type=OrderType.ADD, flag=V2)

    assert await set_route(store, DECLARED, wanted, REASON) == (None, wanted)

    assert [each.route for each in await store.routes()] == [route(1, V1, priority=0), wanted]


async def test_the_same_route_again_changes_nothing(store: MemoryProcessStore) -> None:
    first = route(2, tenant_id=TenantId("acme"))
    await set_route(store, DECLARED, first, REASON)

    assert await set_route(store, DECLARED, replace(first, route_id=UUID(int=3)), REASON) == (None, first)
    assert UUID(int=3) not in store.stored


async def test_a_route_for_the_same_cases_is_replaced_and_kept_for_the_record(store: MemoryProcessStore) -> None:
    wanted = route(2, V2, priority=0)

    replaced, now_there = await set_route(store, DECLARED, wanted, REASON)

    assert (replaced, now_there) == (route(1, V1, priority=0), wanted)
    assert store.stored[UUID(int=1)].removed_at == NOON


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"process_id": "order-fulfillment-v9"}, "process order-fulfillment-v9 is not deployed"),
        ({"process_id": "loyalty-v1"}, "loyalty is no business process of processes.yml"),
        ({"tenant_id": TenantId("nobody")}, "there is no tenant nobody"),
        ({"product_line": "voice"}, "order-fulfillment is not routed by product-line"),
        ({"flag": "order-fulfillment-start"}, "flag order-fulfillment-start is none of those that routes may name"),
    ],
)
async def test_a_route_that_cannot_work_is_refused_by_name(
    store: MemoryProcessStore, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ProcessRefusedError) as refused:
        await set_route(store, DECLARED, route(2, **{"process_id": V2} | changes), REASON)

    assert any(problem in text for text in refused.value.problems)
    assert list(store.stored) == [UUID(int=1)]


@pytest.mark.parametrize(
    ("workers", "problem"),
    [
        ([], f"job type reserve-inventory of {V2} is served by no live worker"),
        ([worker(job_types=JOB_TYPES[:3])], f"job type complete-order of {V2} is served by no live worker"),
        ([worker(variables_schema_versions=[1])], f"of {V2} needs variables schema 2; live workers know 1"),
        (
            [worker(), worker(instance_id="worker-2", variables_schema_versions=[1])],
            "worker-2 of cpq-oms-2026.11.22-007, which does not know variables schema 2",
        ),
        ([worker(release_id="cpq-oms-2026.11.21-001")], "older than cpq-oms-2026.11.22-001"),
    ],
)
async def test_a_route_to_what_live_workers_do_not_serve_is_refused_by_name(
    store: MemoryProcessStore, workers: list[LiveWorker], problem: str
) -> None:
    store.workers = workers

    with pytest.raises(ProcessRefusedError) as refused:
        await set_route(store, DECLARED, route(2), REASON)

    assert any(problem in text for text in refused.value.problems)


async def test_the_route_that_takes_every_case_stays(store: MemoryProcessStore) -> None:
    with pytest.raises(ProcessRefusedError, match="the last one that takes every case of order-fulfillment"):
        await remove_route(store, UUID(int=1), REASON)
    ending = route(2, V2, priority=0, valid_to=NOON + timedelta(days=1))
    with pytest.raises(ProcessRefusedError, match="cannot give way to one that ends"):
        await set_route(store, DECLARED, ending, REASON)

    await set_route(store, DECLARED, route(3, V2, priority=0), REASON)
    assert [each.route.process_id for each in await store.routes()] == [V2]


async def test_an_unknown_route_is_refused(store: MemoryProcessStore) -> None:
    with pytest.raises(ProcessRefusedError, match="there is no route"):
        await remove_route(store, UUID(int=9), REASON)


async def test_what_is_retired_is_never_routed_to_again(store: MemoryProcessStore) -> None:
    await retire(store, DECLARED, EngineView(), V2, REASON)

    with pytest.raises(ProcessRefusedError, match=f"process {V2} is retired"):
        await set_route(store, DECLARED, route(2), REASON)


async def test_a_version_is_not_retired_while_anything_can_reach_it(store: MemoryProcessStore) -> None:
    await store.add_route(route(2, tenant_id=TenantId("acme")), REASON)
    store.references[V2] = LiveReferences(1, 2, NOON, [ORDER])
    engine = EngineView(NOON, instances={7: EngineInstance(7, V2, 1, NOON), 8: EngineInstance(8, V1, 1, NOON)})

    with pytest.raises(ProcessRefusedError) as refused:
        await retire(store, DECLARED, engine, V2, REASON)

    assert list(refused.value.problems) == [
        f"route {UUID(int=2)} points to {V2} (tenant acme)",
        f"3 orders have an instance of {V2} that is pending or alive, the oldest since {NOON.isoformat()}: {ORDER}, …",
        f"the engine's records show 1 living instances of {V2}: 7",
    ]
    assert store.retirements == {}


async def test_an_order_that_read_a_route_just_before_its_removal_is_waited_for(store: MemoryProcessStore) -> None:
    await store.add_route(route(2), REASON)
    await remove_route(store, UUID(int=2), REASON)

    with pytest.raises(ProcessRefusedError, match="removed less than 60 s ago"):
        await retire(store, DECLARED, EngineView(), V2, REASON)

    store.now += ROUTE_GRACE
    await retire(store, DECLARED, EngineView(), V2, REASON)
    assert V2 in store.retirements


@pytest.mark.parametrize(
    ("process_id", "problem"),
    [("order-fulfillment-v9", "was never deployed"), (V1, "is the declared default of order-fulfillment")],
)
async def test_what_cannot_be_retired_is_named(store: MemoryProcessStore, process_id: str, problem: str) -> None:
    with pytest.raises(ProcessRefusedError, match=problem):
        await retire(store, DECLARED, EngineView(), process_id, REASON)


async def test_nothing_is_retired_twice(store: MemoryProcessStore) -> None:
    await retire(store, DECLARED, EngineView(), V2, REASON)

    with pytest.raises(ProcessRefusedError, match="is retired already"):
        await retire(store, DECLARED, EngineView(), V2, REASON)


async def test_a_version_is_reached_until_it_is_retired(store: MemoryProcessStore) -> None:
    assert {process.process_id: process.because for process in await reached(store)} == {
        V1: f"route {UUID(int=1)}",
        V2: "deployed and not retired",
    }

    await retire(store, DECLARED, EngineView(), V2, REASON)

    assert [process.process_id for process in await reached(store)] == [V1]


async def test_what_reaches_a_version_is_told(store: MemoryProcessStore) -> None:
    store.references[V2] = LiveReferences(0, 1, NOON, [ORDER])

    assert {process.process_id: (process.routes, process.live) for process in await reached(store)} == {
        V1: ([str(UUID(int=1))], 0),
        V2: ([], 1),
    }


async def test_an_older_content_of_a_version_still_counts(store: MemoryProcessStore) -> None:
    """An instance stays on the content it began with."""
    store.deployed.append(deployment(1, content_sha256="0" * 64, job_types=["reserve-inventory", "credit-check"]))

    process = next(process for process in await reached(store) if process.process_id == V1)

    assert "credit-check" in process.job_types


async def test_a_release_that_drops_what_is_reached_is_refused_by_name(store: MemoryProcessStore) -> None:
    store.references[V2] = LiveReferences(0, 3, NOON, [ORDER])
    served = set(JOB_TYPES) - {"activate-billing"}

    problems = dropped(await reached(store), served, {1})

    nobody = "and no worker of this release"
    billing = "job type activate-billing is still reached by"
    assert problems == [
        f"{billing} {V1} (route {UUID(int=1)}), {nobody} serves it",
        f"{billing} {V2} (3 live or pending instances), {nobody} serves it",
        f"variables schema 2 is still carried by {V2} (3 live or pending instances), {nobody} understands it",
    ]


async def test_what_is_retired_may_be_dropped(store: MemoryProcessStore) -> None:
    assert dropped(await reached(store), set(JOB_TYPES), {1}) == [
        f"variables schema 2 is still carried by {V2} (deployed and not retired), and no worker of this release understands it"
    ]

    await retire(store, DECLARED, EngineView(), V2, REASON)

    assert dropped(await reached(store), set(JOB_TYPES), {1}) == []


async def test_status_tells_each_version_by_routes_orders_and_the_engines_records(store: MemoryProcessStore) -> None:
    store.references[V2] = LiveReferences(1, 2, NOON, [ORDER])
    store.keys[V2] = {7: NOON, 9: NOON, 6: NOON - timedelta(days=30)}
    engine = EngineView(
        NOON,
        [
            EngineProcess(V1, 1, 101, f"{V1}.bpmn", "1" * 64, NOON),
            EngineProcess(V2, 1, 102, f"{V2}.bpmn", "f" * 64, NOON),
        ],
        {7: EngineInstance(7, V2, 1, NOON), 8: EngineInstance(8, V2, 1, NOON)},
    )

    first, second = await status(store, DECLARED, engine)

    assert (first["process_id"], first["state"], first["orders"]["live"]) == (V1, "routed", 0)
    assert (second["process_id"], second["state"]) == (V2, "draining")
    assert second["orders"] == {"pending": 1, "live": 2, "oldest": NOON}
    assert second["engine"] == {"live": 2, "oldest": NOON, "only_in_engine": [8], "only_in_orders": [9]}
    assert [first["deployments"][0]["is_in_engine"], second["deployments"][0]["is_in_engine"]] == [True, False]


async def test_status_does_not_blame_records_that_are_older_than_the_engines_topic(store: MemoryProcessStore) -> None:
    store.keys[V1] = {7: NOON}

    [first, _] = await status(store, DECLARED, EngineView(NOON + timedelta(days=8)))

    assert first["deployments"][0]["is_in_engine"] is None
    assert first["engine"]["only_in_orders"] == []


async def test_status_names_what_is_idle_retired_or_not_deployed(store: MemoryProcessStore) -> None:
    states = {each["process_id"]: each["state"] for each in await status(store, DECLARED, EngineView())}
    assert states == {V1: "routed", V2: "idle"}

    await retire(store, DECLARED, EngineView(), V2, REASON)
    store.deployed = store.deployed[1:]

    states = {each["process_id"]: each["state"] for each in await status(store, DECLARED, EngineView())}
    assert states == {V1: "not deployed", V2: "retired"}
