"""What live data says of a way back: each question is answered by the real database, without and with one row of what it asks for."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from app.adapters.postgres.live_questions import LiveQuestions
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.application.process_versions import ProcessDeployment
from app.application.release_plan.model import Answer, Asked, Question
from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS
from app.contracts.loader import DIRECTORY, load_units
from app.domain.values import OrderId
from app.entrypoints.admin.outcome import Outcome
from tests.integration.conftest import OpenPool
from tests.support.operator import Operator
from tests.support.orders import place_order, publish_catalog

OLD, NEW = "cpq-oms-2026.11.28-100", "cpq-oms-2026.11.29-101"
MARK = random.randint(10_000, 99_999_999)
PROCESS = f"order-fulfillment-v{MARK}"
STEP = f"probe-{MARK}"
TOPIC = f"probe.{MARK}.v1"
# Allowed by the schema, and no release of today brings an order or a quote there.
STATE = "assessingCancellation"


AS_IT_WAS = """
    SELECT r.process_id, r.state AS reference, o.state FROM cpq.workflow_reference AS r JOIN cpq.product_order AS o USING (order_id)
    WHERE order_id = %s
"""
PLANTED = (
    "DELETE FROM cpq.external_callback WHERE order_id = %(order)s",
    "DELETE FROM cpq.external_call_attempt WHERE order_id = %(order)s AND step = %(step)s",
    "DELETE FROM cpq.fulfillment_task WHERE order_id = %(order)s AND step = %(step)s",
    "DELETE FROM cpq.order_transition WHERE order_id = %(order)s AND to_state = %(step)s",
    "DELETE FROM cpq.outbox_event WHERE aggregate_type = 'probe'",
    "UPDATE cpq.workflow_reference SET process_id = %(process_id)s, state = %(reference)s WHERE order_id = %(order)s",
    "UPDATE cpq.product_order SET state = %(state)s WHERE order_id = %(order)s",
)


@dataclass(frozen=True)
class Placed:
    """An order of the test's own tenant, and who may write anything."""

    tenant_id: str
    order_id: OrderId
    owner: Connection

    async def sql(self, statement: Any, *values: object) -> None:
        await self.owner.execute(statement, values)

    async def event(self, topic: str, event_type: str, payload: str = "{}", state: str = "published") -> str:
        event_id = uuid.uuid4()
        await self.sql(
            "INSERT INTO cpq.outbox_event (event_id, tenant_id, aggregate_type, aggregate_id, aggregate_seq, event_type,"
            " topic, partition_key, payload, shard, state, occurred_at)"
            " VALUES (%s, %s, 'probe', %s, 1, %s, %s, 'probe', %s, 0, %s, now())",
            event_id, self.tenant_id, uuid.uuid4(), event_type, topic, payload, state,
        )  # fmt: skip
        return str(event_id)

    async def reference(self, state: str) -> str:
        await self.sql(
            "UPDATE cpq.workflow_reference SET process_id = %s, state = %s WHERE order_id = %s",
            PROCESS, state, self.order_id,
        )  # fmt: skip
        return str(self.order_id)


@pytest.fixture
async def placed(
    tenant_id: str, open_pool: OpenPool, owner_connection: Connection, admin_connection: Connection
) -> AsyncIterator[Placed]:
    await publish_catalog(admin_connection, tenant_id)
    order_id = await place_order(unit_of_work_factory(await open_pool("api")), tenant_id)
    was = await (await owner_connection.execute(AS_IT_WAS, (order_id,))).fetchone()
    assert was is not None
    yield Placed(tenant_id, order_id, owner_connection)
    # The order goes on as if nothing had been planted.
    for statement in PLANTED:
        await owner_connection.execute(statement, {**was, "order": order_id, "step": STEP})


async def alive(placed: Placed) -> str:
    return await placed.reference("started")


async def pending(placed: Placed) -> str:
    return await placed.reference("pending")


async def published(placed: Placed) -> str:
    return await placed.event(TOPIC, "Probed")


async def waiting(placed: Placed) -> str:
    return await placed.event(TOPIC, "Probed", state="parked")


async def typed(placed: Placed) -> str:
    return await placed.event("oms.order.events.v1", f"Probed{MARK}")


async def valued(placed: Placed) -> str:
    return await placed.event("oms.order.events.v1", "Probed", f'{{"channel": "{STEP}"}}')


async def in_state(placed: Placed) -> str:
    await placed.sql("UPDATE cpq.product_order SET state = %s WHERE order_id = %s", STATE, placed.order_id)
    return str(placed.order_id)


async def was_in_state(placed: Placed) -> str:
    await placed.sql(
        "INSERT INTO cpq.order_transition (order_id, tenant_id, aggregate_seq, to_state, reason, actor, occurred_at)"
        " VALUES (%s, %s, 99, %s, 'probe', 'tests', now())",
        placed.order_id, placed.tenant_id, STEP,
    )  # fmt: skip
    return str(placed.order_id)


async def task(placed: Placed) -> str:
    await placed.sql(
        "INSERT INTO cpq.fulfillment_task (order_id, tenant_id, step, state, updated_at)"
        " VALUES (%s, %s, %s, 'pending', now())",
        placed.order_id, placed.tenant_id, STEP,
    )  # fmt: skip
    return str(placed.order_id)


async def attempt(placed: Placed, state: str = "unknown") -> str:
    await placed.sql(
        "INSERT INTO cpq.external_call_attempt (attempt_id, tenant_id, order_id, step, attempt_no, external_system,"
        " idempotency_key, request_sha256, state, prepared_at) VALUES (%s, %s, %s, %s, 1, 'billing', %s, '', %s, now())",
        uuid.uuid4(), placed.tenant_id, placed.order_id, STEP, str(placed.order_id), state,
    )  # fmt: skip
    return str(placed.order_id)


async def callback(placed: Placed) -> str:
    await attempt(placed, "succeeded")
    await placed.sql(
        "INSERT INTO cpq.external_callback (tenant_id, external_system, callback_id, order_id, idempotency_key, outcome,"
        " external_reference, detail, body_sha256, disposition, occurred_at, received_at)"
        " VALUES (%s, 'billing', %s, %s, %s, 'done', 'r-1', '', '', 'early', now(), now())",
        placed.tenant_id, str(uuid.uuid4()), placed.order_id, str(placed.order_id),
    )  # fmt: skip
    return str(placed.order_id)


Plant = Callable[[Placed], Awaitable[str]]


@pytest.mark.parametrize(
    ("question", "plant"),
    [
        (Question(Asked.LIVE_ORDERS, (PROCESS,)), alive),
        (Question(Asked.LIVE_ORDERS, (PROCESS,)), pending),
        (Question(Asked.PENDING_ORDERS, (PROCESS,)), pending),
        (Question(Asked.EVENTS_ON_TOPICS, (TOPIC,)), published),
        (Question(Asked.EVENTS_ON_TOPICS, (TOPIC,)), waiting),
        (Question(Asked.EVENTS_OF_TYPES, (f"Probed{MARK}",)), typed),
        (Question(Asked.EVENTS_WITH_VALUES, (STEP,), "channel"), valued),
        (Question(Asked.STATES, (STATE,)), in_state),
        (Question(Asked.STATES, (STEP,)), was_in_state),
        (Question(Asked.OPEN_STEPS, (STEP,)), task),
        (Question(Asked.OPEN_STEPS, (STEP,)), attempt),
        (Question(Asked.OPEN_STEPS, (STEP,)), callback),
    ],
    ids=lambda value: value.asked.name.lower() if isinstance(value, Question) else value.__name__,
)
async def test_a_question_is_answered_by_what_is_there(
    admin_connection: Connection, placed: Placed, question: Question, plant: Plant
) -> None:
    questions = LiveQuestions(admin_connection)
    assert await questions.answers([question]) == {question: Answer(0)}

    one = await plant(placed)

    assert await questions.answers([question]) == {question: Answer(1, (one,))}


async def test_of_many_all_are_counted_and_the_first_ten_named(admin_connection: Connection, placed: Placed) -> None:
    ids = [await placed.event(TOPIC, "Probed") for _ in range(12)]
    question = Question(Asked.EVENTS_ON_TOPICS, (TOPIC,))

    [answer] = (await LiveQuestions(admin_connection).answers([question])).values()

    assert answer == Answer(12, tuple(ids[:10]))


async def test_what_is_over_stands_in_nobodys_way(admin_connection: Connection, placed: Placed) -> None:
    questions = (
        Question(Asked.LIVE_ORDERS, (PROCESS,)),
        Question(Asked.PENDING_ORDERS, (PROCESS,)),
        Question(Asked.OPEN_STEPS, (STEP,)),
    )
    await attempt(placed, "succeeded")
    await task(placed)
    await placed.sql("UPDATE cpq.fulfillment_task SET state = 'completed' WHERE step = %s", STEP)
    await placed.reference("completed")

    assert set((await LiveQuestions(admin_connection).answers(questions)).values()) == {Answer(0)}


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
async def test_a_count_that_takes_too_long_is_no_answer(
    admin_connection: Connection, owner_connection: Connection, limit: str
) -> None:
    question = Question(Asked.EVENTS_ON_TOPICS, (TOPIC,))
    await admin_connection.execute("SELECT set_config(%s, '300ms', false)", (limit,))
    try:
        async with owner_connection.transaction():
            await owner_connection.execute("LOCK TABLE cpq.outbox_event IN ACCESS EXCLUSIVE MODE")

            assert await LiveQuestions(admin_connection).answers([question]) == {question: None}
    finally:
        await admin_connection.execute("RESET ALL")


async def test_asking_changes_nothing(admin_connection: Connection) -> None:
    await admin_connection.execute("SET default_transaction_read_only = on")
    try:
        for asked in Asked:
            question = Question(asked, (STEP,), "channel" if asked is Asked.EVENTS_WITH_VALUES else "")
            assert await LiveQuestions(admin_connection).answers([question]) == {question: Answer(0)}
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await admin_connection.execute("UPDATE cpq.workflow_reference SET state = state WHERE false")
    finally:
        await admin_connection.execute("RESET default_transaction_read_only")


@pytest.fixture
async def deployed(owner_connection: Connection, admin_connection: Connection) -> AsyncIterator[None]:
    """A process whose job type no release serves, in the platform's own records."""
    probe = ProcessDeployment(PROCESS, "0" * 64, 1, MARK, [STEP], 1, OLD, "0" * 40, NEW)
    await ProcessDeployments(admin_connection).record(probe)
    yield
    await owner_connection.execute("DELETE FROM cpq.process_deployment WHERE process_id = %s", (PROCESS,))


def described() -> dict[str, dict[str, str]]:
    return {
        part: {path.name: path.read_text() for path in DIRECTORY.glob(pattern)}
        for part, pattern in {**PARTS, **DECLARATIONS}.items()
    }


async def judge(operator: Operator, admin_connection: Connection) -> Outcome:
    rows = await (await admin_connection.execute("SELECT migration FROM cpq.migration_ledger")).fetchall()
    units = [*load_units()]
    former = {
        "release_id": OLD,
        "units": units,
        "files": described(),
        "migrations": sorted(row["migration"] for row in rows),
    }
    document = {"installed": {NEW: described()}, "units": {unit: [NEW] for unit in units}, "former": former}
    return await operator.run("release", "verdict", document=document)


@pytest.mark.usefixtures("deployed")
async def test_one_order_on_the_new_process_ends_the_way_back_and_is_named(
    operator: Operator, admin_connection: Connection, placed: Placed
) -> None:
    before = await judge(operator, admin_connection)
    await placed.reference("pending")
    after = await judge(operator, admin_connection)

    def of(outcome: Outcome) -> tuple[str, str]:
        [ground] = [each for each in outcome.data["grounds"] if PROCESS in each["because"]]
        return ground["way"], ground["answer"]

    assert of(before) == ("possible", "none")
    assert of(after) == ("roll-forward only", f"1: {placed.order_id}")
    assert after.exit_code == 1
    assert any(f"(1: {placed.order_id})" in problem for problem in after.problems)
    assert f"it must serve {PROCESS}" in "; ".join(after.data["roll_forward"])
