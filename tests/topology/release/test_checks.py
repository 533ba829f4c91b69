"""Every check stops the release by its name when its fault is there, and the timers a release paused run again."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from pyzeebe import ZeebeClient, create_insecure_channel

from tests.topology.release.conftest import BASELINE_TAKEN, ROOT, SMOKE_SEEN, Environment

Fault = Callable[[Environment], AbstractContextManager[None]]

# Once per transaction: how often a plan asks for the tenant depends on how many rows there are.
SLOW_TENANT = """
    CREATE OR REPLACE FUNCTION cpq.current_tenant() RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN
        IF current_setting('planted.slept', true) IS DISTINCT FROM 'yes' THEN
            PERFORM pg_sleep(0.7), set_config('planted.slept', 'yes', true);
        END IF;
        RETURN current_setting('cpq.tenant_id');
    END $$
"""
SOME_ORDER = "(SELECT order_id FROM cpq.product_order WHERE tenant_id = 'acme-telecom' LIMIT 1)"
FALLOUT = f"""
    INSERT INTO cpq.fallout_case (fallout_id, tenant_id, order_id, step, error_code, detail, state, opened_at)
    SELECT gen_random_uuid(), 'acme-telecom', {SOME_ORDER}, 'planted-' || n, 'PLANTED', 'planted by a test', 'open', now()
    FROM generate_series(1, {{count}}) AS n
"""
NO_FALLOUT = "DELETE FROM cpq.fallout_case WHERE error_code = 'PLANTED'"
# Events as the platform writes them, of orders that there are not: more than a consumer group may be behind.
EVENTS = """
    INSERT INTO cpq.outbox_event (event_id, tenant_id, aggregate_type, aggregate_id, aggregate_seq, event_type, topic,
        partition_key, payload, shard, occurred_at)
    SELECT event_id, 'acme-telecom', 'product_order', order_id, 1, 'OrderAcknowledged', 'oms.order.events.v1', order_id::text,
        jsonb_build_object('eventId', event_id, 'eventType', 'OrderAcknowledged', 'tenantId', 'acme-telecom', 'orderId',
            order_id, 'quoteId', order_id, 'customerId', 'planted', 'aggregateSeq', 1, 'state', 'acknowledged', 'currency',
            'EUR', 'totalOneTime', '1.00', 'totalRecurring', '1.00', 'occurredAt', '2026-01-01T00:00:00+00:00')::text, 0, now()
    FROM (SELECT gen_random_uuid() AS event_id, gen_random_uuid() AS order_id FROM generate_series(1, 1001)) AS planted
"""
PLANTED_EVENTS = "cpq.outbox_event WHERE payload LIKE '%\"planted\"%'"
NO_EVENTS = f"DELETE FROM {PLANTED_EVENTS}"
NO_ORDERS = "DELETE FROM cpq.order_projection WHERE customer_id = 'planted'"
FAULTY_PROCESS = """<?xml version="1.0" encoding="UTF-8"?>
<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:zeebe="http://camunda.org/schema/zeebe/1.0"
 id="planted" targetNamespace="https://cpq-oms.example/tests">
  <bpmn:process id="planted-fault" isExecutable="true">
    <bpmn:startEvent id="start"><bpmn:outgoing>a</bpmn:outgoing></bpmn:startEvent>
    <bpmn:sequenceFlow id="a" sourceRef="start" targetRef="choice" />
    <bpmn:exclusiveGateway id="choice"><bpmn:incoming>a</bpmn:incoming><bpmn:outgoing>b</bpmn:outgoing></bpmn:exclusiveGateway>
    <bpmn:sequenceFlow id="b" sourceRef="choice" targetRef="end">
      <bpmn:conditionExpression>=missing = 1</bpmn:conditionExpression>
    </bpmn:sequenceFlow>
    <bpmn:endEvent id="end"><bpmn:incoming>b</bpmn:incoming></bpmn:endEvent>
  </bpmn:process>
</bpmn:definitions>
"""


def no_connections(environment: Environment) -> AbstractContextManager[None]:
    return environment.statement("ALTER ROLE cpq_admin CONNECTION LIMIT 0", "ALTER ROLE cpq_admin CONNECTION LIMIT 6")


def failing_requests(environment: Environment) -> AbstractContextManager[None]:
    @contextmanager
    def planted() -> Iterator[None]:
        revoked = environment.statement(
            "REVOKE SELECT ON cpq.product_order FROM cpq_api", "GRANT SELECT ON cpq.product_order TO cpq_api"
        )
        order = environment.sql(f"SELECT {SOME_ORDER}")[0]
        with revoked, environment.traffic(f"/v1/orders/{order}") as begin:
            begin()
            yield

    return planted()


def unpublished_events(environment: Environment) -> AbstractContextManager[None]:
    @contextmanager
    def planted() -> Iterator[None]:
        environment.host.run("systemctl stop cpq-oms-relay.service")
        try:
            with environment.statement(EVENTS, NO_EVENTS):
                yield
        finally:
            environment.host.run("systemctl start cpq-oms-relay.service")

    return planted()


def open_fallout(environment: Environment) -> AbstractContextManager[None]:
    return environment.statement(FALLOUT.format(count=11), NO_FALLOUT)


PRE_CHECKS: dict[str, Fault] = {
    "database": no_connections,
    "kafka": lambda environment: environment.cut(9092),
    "camunda": lambda environment: environment.cut(26500),
    "redis": lambda environment: environment.cut(6379),
    "error-rate": failing_requests,
    "outbox-backlog": unpublished_events,
    "incidents-and-fallout": open_fallout,
}


@pytest.mark.parametrize("name", PRE_CHECKS)
def test_a_pre_check_stops_the_release_before_anything_changes(environment: Environment, name: str) -> None:
    pids = environment.main_pids()
    with PRE_CHECKS[name](environment):
        run = environment.release()

    assert run.stopped_by(name), run.output
    assert run.changed == 0, run.output
    assert environment.timer_runs()
    if name != "outbox-backlog":
        assert environment.main_pids() == pids


def test_the_window_stops_the_release_by_name_and_timers_run_again(environment: Environment) -> None:
    """An instance that shows no figures any more is what the window is for."""
    stopped: list[bool] = []
    environment.make_pending()
    with ExitStack() as stack:

        def silence() -> None:
            stopped.append(not environment.timer_runs())
            stack.enter_context(environment.cut(9130))

        run = environment.release(at={BASELINE_TAKEN: silence})

    assert run.stopped_by("window"), run.output
    assert "consumer@order-projection on" in run.output
    assert stopped == [True], "the timer ran while the release changed something"
    assert environment.timer_runs()
    assert environment.last_run() == ("failed", "{}")


@contextmanager
def slow_database(environment: Environment) -> Iterator[dict[str, Callable[[], object]]]:
    function = environment.sql("SELECT pg_get_functiondef('cpq.current_tenant'::regproc)")
    with environment.statement(SLOW_TENANT, "\n".join(function)):
        yield {}


@contextmanager
def errors_during_smoke(environment: Environment) -> Iterator[dict[str, Callable[[], object]]]:
    """Requests fail between the baseline and the window only, so that no sample of the window sees them."""
    quote = environment.sql("SELECT quote_id FROM cpq.quote WHERE tenant_id = 'acme-telecom' LIMIT 1")[0]
    with ExitStack() as stack:

        def begin() -> None:
            # The table under another name: what asks for it fails, and no grant differs.
            stack.enter_context(
                environment.statement(
                    "ALTER TABLE cpq.quote_price_step RENAME TO planted",
                    "ALTER TABLE cpq.planted RENAME TO quote_price_step",
                )
            )
            stack.enter_context(environment.traffic(f"/v1/quotes/{quote}"))()

        yield {BASELINE_TAKEN: begin, SMOKE_SEEN: stack.close}


@contextmanager
def lagging_consumer(environment: Environment) -> Iterator[dict[str, Callable[[], object]]]:
    def projected(count: int) -> bool:
        return environment.sql("SELECT count(*) FROM cpq.order_projection WHERE customer_id = 'planted'") == [
            str(count)
        ]

    try:
        with environment.held("LOCK TABLE cpq.inbox_event IN ACCESS EXCLUSIVE MODE"):
            environment.sql(EVENTS)
            waiting = f"SELECT count(*) FROM {PLANTED_EVENTS} AND state <> 'published'"
            environment.until(lambda: environment.sql(waiting) == ["0"], "the relay published the planted events")
            yield {}
        environment.until(lambda: projected(1001), "the consumer caught up")
    finally:
        environment.sql(f"{NO_EVENTS}; {NO_ORDERS}")


@contextmanager
def an_incident(environment: Environment) -> Iterator[dict[str, Callable[[], object]]]:
    async def start() -> int:
        channel = create_insecure_channel(grpc_address=f"{environment.host.address}:26500")
        try:
            client = ZeebeClient(channel)
            await client.deploy_resource(path)
            return (await client.run_process("planted-fault")).process_instance_key
        finally:
            await channel.close()

    async def cancel(key: int) -> None:
        channel = create_insecure_channel(grpc_address=f"{environment.host.address}:26500")
        try:
            await ZeebeClient(channel).cancel_process_instance(key)
        finally:
            await channel.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "planted.bpmn")
        path.write_text(FAULTY_PROCESS)
        keys: list[int] = []
        try:
            yield {BASELINE_TAKEN: lambda: keys.append(asyncio.run(start()))}
        finally:
            for key in keys:
                asyncio.run(cancel(key))


@contextmanager
def a_waiting_session(environment: Environment) -> Iterator[dict[str, Callable[[], object]]]:
    lock = "SELECT pg_advisory_xact_lock(770077)"
    # The one that waits ends last: it cannot end before it has the lock.
    with ExitStack() as waiting, environment.held(lock):
        waiting.enter_context(environment.session(f"{lock};"))
        yield {}


@contextmanager
def failing_orders(environment: Environment) -> Iterator[dict[str, Callable[[], object]]]:
    with ExitStack() as stack:
        fault = environment.statement(FALLOUT.format(count=1), NO_FALLOUT)
        yield {BASELINE_TAKEN: lambda: stack.enter_context(fault)}


POST_CHECKS = {
    "api-latency": slow_database,
    "error-rate": errors_during_smoke,
    "kafka-lag": lagging_consumer,
    "camunda-incidents": an_incident,
    "database-locks": a_waiting_session,
    "business-success-rate": failing_orders,
}


# Each costs a release with its window. Other ones for each commit; `make checks-proof` plants the fault of every one.
COUNT = 2
COMMIT = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PLANTED = (
    sorted(POST_CHECKS)
    if os.environ.get("CPQ_EVERY_CHECK")
    else random.Random(COMMIT).sample(sorted(POST_CHECKS), COUNT)
)


@pytest.mark.parametrize("name", PLANTED)
def test_a_post_check_stops_the_release_by_name(environment: Environment, name: str) -> None:
    environment.make_proven()
    with POST_CHECKS[name](environment) as at:
        run = environment.release(at=at)

    assert run.stopped_by(name), run.output
    assert environment.timer_runs()
    assert environment.last_run() == ("failed", "{}")
