"""A canary judged on real quotes and orders: what is counted, what they cost again, and which verdict a command ends with."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.adapters.postgres.canary_flows import canary_flows
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.release_journal import ReleaseJournal
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.application.canary.measurement import FlowGroup
from app.application.release_record import Place
from app.application.release_run import Holder
from app.domain.canary import Cohort, Flow
from app.domain.values import OrderId, TenantId
from app.entrypoints.admin.canary_input import STEP
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.metrics import ApiMetrics, MetricsServer, new_registry
from app.runtime.release import Release
from tests.integration.conftest import OpenPool
from tests.support.operator import Operator
from tests.support.orders import PROCESS_ID, place_order, publish_catalog

SINCE = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)
OPTIONS = ("--since", SINCE.strftime("%Y-%m-%dT%H:%M:%S"))


@pytest.fixture
async def orders(open_pool: OpenPool, owner_connection: Connection, tenant_id: str) -> list[OrderId]:
    """Three orders of a tenant's own, of 1, 2 and 3 pieces."""
    await publish_catalog(owner_connection, tenant_id)
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))
    return [await place_order(open_unit_of_work, tenant_id, quantity) for quantity in (1, 2, 3)]


async def groups_of(connection: Connection, tenant_id: str) -> list[FlowGroup]:
    async with canary_flows(connection) as flows:
        return [group for group in await flows.groups(SINCE) if group.flow.tenant_id == tenant_id]


async def test_flows_are_counted_with_what_a_cohort_is_chosen_by(
    owner_connection: Connection, admin_connection: Connection, tenant_id: str, orders: list[OrderId]
) -> None:
    failed, fallen, fulfilled = orders
    await owner_connection.execute("UPDATE cpq.product_order SET state = 'failed' WHERE order_id = %s", [failed])
    await owner_connection.execute(
        "INSERT INTO cpq.fallout_case (fallout_id, tenant_id, order_id, step, error_code, detail, state, opened_at)"
        " VALUES (gen_random_uuid(), %s, %s, 'reserve-inventory', 'probe', 'probe', 'open', now())",
        [tenant_id, fallen],
    )
    # Two tasks one after the other, 5 and 20 seconds after the order; a third is not done.
    steps = "SELECT step FROM cpq.fulfillment_task WHERE order_id = %s ORDER BY step LIMIT 2"
    names = [row["step"] for row in await (await owner_connection.execute(steps, [fulfilled])).fetchall()]
    for step, seconds in zip(names, (5, 20), strict=True):
        await owner_connection.execute(
            "UPDATE cpq.fulfillment_task AS t SET state = 'completed', updated_at = o.created_at + %s * interval '1 s'"
            " FROM cpq.product_order AS o WHERE t.order_id = o.order_id AND o.order_id = %s AND t.step = %s",
            [seconds, fulfilled, step],
        )

    counted, timed = await groups_of(admin_connection, tenant_id)

    flow = Flow(TenantId(tenant_id), frozenset({"internet"}), PROCESS_ID)
    assert counted == FlowGroup(flow, quotes=3, converted=3, orders=3, fell_out=2)
    assert replace(timed, task_seconds=sorted(timed.task_seconds)) == FlowGroup(flow, task_seconds=[5.0, 15.0])


async def test_a_quote_without_an_order_counts_as_not_converted_and_an_older_one_as_an_order_alone(
    owner_connection: Connection, admin_connection: Connection, tenant_id: str, orders: list[OrderId]
) -> None:
    await owner_connection.execute(
        "INSERT INTO cpq.quote (quote_id, tenant_id, state, customer_id, currency, catalog_version, valid_until, created_by,"
        " created_at, updated_at)"
        " VALUES (gen_random_uuid(), %s, 'inProgress', 'c', 'EUR', 1, now(), 'tests', now(), now())",
        [tenant_id],
    )
    await owner_connection.execute(
        "UPDATE cpq.quote SET created_at = %s FROM cpq.product_order AS o WHERE o.quote_id = quote.quote_id AND o.order_id = %s",
        [SINCE - timedelta(days=3), orders[0]],
    )

    counts = {
        group.flow.process_id: (group.quotes, group.converted, group.orders)
        for group in await groups_of(admin_connection, tenant_id)
    }

    assert counts == {None: (1, 0, 0), PROCESS_ID: (2, 2, 3)}


async def repriced(operator: Operator, tenant_id: str) -> dict[str, Any]:
    outcome = await operator.run("release", "canary", "reprice", "--cohort", f"tenant:{tenant_id}", *OPTIONS)
    assert (outcome.exit_code, list(outcome.problems)) == (0, [])
    data: dict[str, Any] = json.loads(json.dumps(outcome.document(), default=str))["data"]
    return data


async def judged(operator: Operator, cohort: str, **found: Any) -> Outcome:
    return await operator.run("release", "canary", "judge", "--cohort", cohort, *OPTIONS, document=found)


@pytest.mark.usefixtures("orders")
async def test_quotes_cost_again_what_they_cost_and_a_cent_more_aborts_by_quote_and_line(
    operator: Operator, admin_connection: Connection, tenant_id: str
) -> None:
    former = await repriced(operator, tenant_id)
    latter = copy.deepcopy(former)
    stored = "SELECT quote_id, total_one_time, total_recurring FROM cpq.quote WHERE tenant_id = %s"
    kept = {
        (str(row["quote_id"]), str(row["total_one_time"]), str(row["total_recurring"]))
        for row in await (await admin_connection.execute(stored, [tenant_id])).fetchall()
    }
    lines = latter["lines"]
    assert {(line["quote_id"], line["one_time"], line["recurring"]) for line in lines if line["line"] == 0} == kept
    assert len(lines) == 6

    [line] = [line for line in lines if line["line"] == 1 and line["one_time"] == "99.80"]
    line["one_time"] = "99.81"
    outcome = await judged(operator, f"tenant:{tenant_id}", former_prices=former, prices=latter)

    assert outcome.exit_code == 3
    [problem] = outcome.problems
    assert problem.startswith(f"abort: price: quote {line['quote_id']} line 1: 99.81 EUR once")
    assert outcome.data["verdict"] == "abort"
    assert outcome.report.startswith(f"abort: tenant:{tenant_id}, begun between {SINCE.isoformat()}")


@pytest.mark.usefixtures("orders")
async def test_three_orders_are_too_few_and_the_table_says_what_is_lacking(operator: Operator, tenant_id: str) -> None:
    outcome = await judged(operator, f"tenant:{tenant_id}")
    rows = {row["measure"]: row for row in outcome.data["measures"]}

    assert outcome.exit_code == 4
    assert rows["fallout-rate"]["samples"].startswith("3 / ")
    assert "too few samples: canary 3" in rows["fallout-rate"]["reason"]
    assert rows["price"]["reason"] == "prices of both releases were not given"
    assert {rows[name]["reason"] for name in ("error-rate", "latency-p95")} == {"no servers were observed"}


async def test_errors_of_the_servers_of_the_canary_abort_while_everything_else_has_seen_too_little(
    operator: Operator, tenant_id: str, orders: list[OrderId]
) -> None:
    assert orders
    shown: dict[str, ApiMetrics] = {}
    servers: list[MetricsServer] = []
    targets: list[dict[str, Any]] = []
    for host in ("api-1", "api-2"):
        registry = new_registry()
        shown[host] = ApiMetrics(registry)
        server = MetricsServer("127.0.0.1", 0, registry)
        await server.start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.port}/metrics"
        targets.append({"unit": "api", "instance": "api", "host": host, "url": url, "installed": True})

    def answer(requests: int, errors: int) -> None:
        for host, failed in (("api-1", 0), ("api-2", errors)):
            for number in range(requests):
                shown[host].request("GET", "/v1/quotes", 500 if number < failed else 200, 0.02)

    async def traffic() -> None:
        await asyncio.sleep(1)
        answer(600, 30)

    answer(100, 100)  # before anybody looked, and so nobody's
    document = {"targets": targets, "canary_hosts": ["api-2"], "observation_seconds": 2}
    observed, _ = await asyncio.gather(operator.run("release", "canary", "observe", document=document), traffic())
    for server in servers:
        await server.stop()
    outcome = await judged(operator, f"tenant:{tenant_id}", servers=observed.data["measured"])

    rows = {row["measure"]: row for row in outcome.data["measures"]}
    assert outcome.exit_code == 3
    assert [problem[:20] for problem in outcome.problems] == ["abort: error-rate: 5"]
    assert (rows["error-rate"]["canary"], rows["error-rate"]["samples"]) == ("5 % (30)", "600 / 600")
    assert rows["latency-p99"]["finding"] == "within"
    assert rows["fallout-rate"]["finding"] == "inconclusive"


@pytest.mark.parametrize(
    ("cohort", "problem"),
    [
        ("tenant:nobody-at-all", "there is no tenant nobody-at-all"),
        ("product-line:nothing-at-all", "no catalog has a product line nothing-at-all"),
        ("process:order-fulfillment-v999", "no route leads to order-fulfillment-v999"),
        ("partner:any", "--cohort: A cohort by partner cannot be told: neither quotes nor orders know their partner."),
    ],
)
async def test_a_cohort_of_nobody_is_refused_by_name(operator: Operator, cohort: str, problem: str) -> None:
    for command in ("judge", "reprice", "check"):
        since = () if command == "check" else OPTIONS
        outcome = await operator.run("release", "canary", command, "--cohort", cohort, *since, document={})

        assert (outcome.exit_code, list(outcome.problems)) == (1, [problem])


async def test_a_moment_to_come_and_prices_of_other_quotes_are_refused(
    operator: Operator, tenant_id: str, orders: list[OrderId]
) -> None:
    assert orders
    prices = await repriced(operator, tenant_id)
    other = await judged(operator, "percent:5", former_prices=prices, prices=prices)
    later = await operator.run(
        "release", "canary", "reprice", "--cohort", f"tenant:{tenant_id}", "--since", "2199-01-01"
    )

    assert f"cohort: expected percent:5, found tenant:{tenant_id}" in other.problems[0]
    assert list(later.problems) == ["--since 2199-01-01T00:00:00+00:00 is not over"]


async def test_without_a_moment_a_canary_begins_when_a_release_last_brought_its_hosts(
    operator: Operator,
    admin_connection: Connection,
    tenant_id: str,
    orders: list[OrderId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert orders
    release_id = f"cpq-oms-{tenant_id}"
    monkeypatch.setattr(Session, "release", Release(release_id, "a" * 40))
    words = ("release", "canary", "reprice", "--cohort", f"tenant:{tenant_id}")
    nobody = await operator.run(*words)

    journal, holder = (
        ReleaseJournal(admin_connection),
        Holder("tests@control:1:9", "tests", frozenset(), timedelta(minutes=15)),
    )
    begun = await journal.begin(uuid.uuid4(), release_id, holder)
    before = datetime.now(UTC).replace(microsecond=0)
    for host in ("api-1", "api-2"):
        await journal.step(begun.run_id, STEP, "succeeded", None, [Place(host, "", release_id)])
    await journal.finish(begun.run_id, "succeeded", None)
    found = await operator.run(*words)

    assert list(nobody.problems) == [
        f"--since: no release has brought hosts of a canary to {release_id}: say from when on it was one"
    ]
    since = datetime.fromisoformat(found.data["since"])
    assert found.exit_code == 0
    assert before <= since <= datetime.now(UTC)
    # Those of the same second may be in it, and none of before.
    assert all(datetime.fromisoformat(line["accepted_at"]) >= since for line in found.data["lines"])


async def test_looking_at_flows_can_change_nothing(admin_connection: Connection) -> None:
    with pytest.raises(Exception, match="read-only transaction"):
        async with canary_flows(admin_connection):
            await admin_connection.execute("UPDATE cpq.workflow_reference SET last_error = NULL")


async def test_every_cohort_takes_quotes_of_its_own(
    admin_connection: Connection, tenant_id: str, orders: list[OrderId]
) -> None:
    async with canary_flows(admin_connection) as flows:
        for cohort in (f"tenant:{tenant_id}", "product-line:internet", f"process:{PROCESS_ID}"):
            found = [quote for quote, _ in await flows.accepted(Cohort.parse(cohort), SINCE)]
            assert len([quote for quote in found if quote.tenant_id == tenant_id]) == len(orders), cohort
        assert await flows.accepted(Cohort.parse("product-line:nothing"), SINCE) == []
