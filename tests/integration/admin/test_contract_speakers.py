"""Who PostgreSQL says still speaks an old form: each is named while it is there, and nobody is when it has gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import LiteralString, TypeVar

import psycopg
import pytest

from app.adapters.postgres.live_questions import LiveQuestions
from app.adapters.postgres.live_sessions import LiveSessions
from app.adapters.postgres.migrations import Migrator
from app.adapters.postgres.operator_session import open_session
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_administration import PostgresProcessStore
from app.adapters.postgres.standbys import Standbys
from app.application.contract_phase import Speech, questions, speakers
from app.application.process_versions import reached
from app.application.release_plan.described import migration
from tests.support.migration_database import (
    PORT,
    folder,
    host,
    migrator,
    on_standby,
    password,
    standby,
    url,
)
from tests.support.released_host import ReleasedHost

__all__ = ["folder", "host", "migrator", "password", "standby", "url"]

T = TypeVar("T")
OLD, OWN, LATER = "cpq-oms-2026.11.28-100", "cpq-oms-2026.11.29-101", "cpq-oms-2026.11.30-001"
TOPIC, PROCESS = "oms.order.events.v1", "order-fulfillment-v1"
ORDER = "01a20000-0000-7000-8000-0000000000aa"
CONTRACT = migration(
    "0900_contract_probe",
    f"""-- removes: column cpq.tenant.display_name
-- removes: topic {TOPIC}
-- removes: process {PROCESS}
-- last-needed-by: generation 1
""",
    "sha",
)
Plant = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def schema(migrator: Migrator, url: str) -> str:
    """The platform's schema with one tenant; nobody is connected."""
    migrator.expand(OWN)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO cpq.tenant VALUES ('acme', 'Acme', 'EUR')")
        # References are planted without the order and the quote that they are made with.
        connection.execute("ALTER TABLE cpq.workflow_reference DROP CONSTRAINT workflow_reference_order_id_fkey")
    return url


def act(url: str, what: Callable[[Connection], Awaitable[T]], name: str = f"operator/{OWN}") -> T:
    async def inside() -> T:
        async with open_session(url, ["none"], name, timedelta(seconds=5)) as connection:
            return await what(connection)

    return asyncio.run(inside())


def named(url: str, *, others: str = "") -> list[str]:
    """What stands against the contract migration, as the command would say it."""

    async def listen(connection: Connection) -> Speech:
        live, store = LiveSessions(connection), PostgresProcessStore(connection)
        processes = tuple(await reached(store))
        answers = await LiveQuestions(connection).answers(questions([CONTRACT], processes))
        standbys = await live.standbys(Standbys(others or url, ["none"], f"operator/{OWN}", timedelta(seconds=5)))
        return Speech(
            await live.release(), await live.sessions(), tuple(await store.live_workers()), processes, answers, standbys=standbys
        )  # fmt: skip

    return [str(one) for one in speakers(CONTRACT, OWN, 2, act(url, listen))]


@contextmanager
def rows(url: str, plant: LiteralString, remove: LiteralString, values: dict[str, object]) -> Iterator[None]:
    with psycopg.connect(url, autocommit=True, application_name=f"tests/{OWN}") as connection:
        connection.execute(plant, values)
        yield
        connection.execute(remove, values)


@contextmanager
def session(url: str, role: str, name: str) -> Iterator[None]:
    with psycopg.connect(url.replace("cpq_owner", role), application_name=name):
        yield


def a_session_of_an_old_release(url: str) -> AbstractContextManager[None]:
    return session(url, "cpq_api", f"api-1/{OLD}")


def a_session_without_a_release(url: str) -> AbstractContextManager[None]:
    return session(url, "cpq_admin", "psql")


def a_live_worker(url: str) -> AbstractContextManager[None]:
    return rows(
        url,
        "INSERT INTO cpq.worker_registration VALUES ('worker-2', 'fulfillment', '{reserve-inventory}', 1, %(old)s, now(), now(), '{1}')",
        "DELETE FROM cpq.worker_registration",
        {"old": OLD},
    )


def a_process_instance(url: str) -> AbstractContextManager[None]:
    return rows(
        url,
        "INSERT INTO cpq.workflow_reference (order_id, tenant_id, process_id, variables_schema_version, message_id, state,"
        " next_attempt_at, requested_at) VALUES (%(order)s, 'acme', %(process)s, 1, 'probe', 'started', now(), now())",
        "DELETE FROM cpq.workflow_reference",
        {"order": ORDER, "process": PROCESS},
    )


def an_outbox_row(url: str) -> AbstractContextManager[None]:
    return rows(
        url,
        "INSERT INTO cpq.outbox_event (event_id, tenant_id, aggregate_type, aggregate_id, aggregate_seq, event_type, topic,"
        " partition_key, payload, shard, occurred_at)"
        " VALUES (%(event)s, 'acme', 'probe', %(event)s, 1, 'Probed', %(topic)s, 'probe', '{}', 0, now())",
        "DELETE FROM cpq.outbox_event",
        {"event": uuid.UUID(ORDER), "topic": TOPIC},
    )


def an_event_put_aside(url: str) -> AbstractContextManager[None]:
    return rows(
        url,
        "INSERT INTO cpq.consumer_parked_event (consumer_group, topic, kafka_partition, kafka_offset, tenant_id, aggregate_key,"
        " event_id, header_names, header_values, state)"
        " VALUES ('order-projection', %(topic)s, 0, 1, 'acme', 'probe', %(event)s, '{}', '{}', 'waiting')",
        "DELETE FROM cpq.consumer_parked_event",
        {"event": uuid.UUID(ORDER), "topic": TOPIC},
    )


def a_release_under_way(url: str) -> AbstractContextManager[None]:
    return rows(
        url,
        "INSERT INTO cpq.release_run (run_id, release_id, operator, state, holder)"
        " VALUES (%(run)s, %(release)s, 'erika', 'running', 'erika@host')",
        "DELETE FROM cpq.release_run",
        {"run": uuid.UUID(ORDER), "release": LATER},
    )


@pytest.mark.parametrize(
    ("plant", "who"),
    [
        (a_session_of_an_old_release, f"database session api-1/{OLD} (backend "),
        (a_session_without_a_release, "role cpq_admin) says no release: "),
        (a_live_worker, f"live worker worker-2 of group fulfillment runs {OLD}: "),
        (a_process_instance, f"process instance of {PROCESS}, orders 1: {ORDER}: "),
        (an_outbox_row, f"outbox row of topic {TOPIC}, events 1: {ORDER}: "),
        (an_event_put_aside, f"outbox row of topic {TOPIC}, events 1: {ORDER}: "),
        (a_release_under_way, f"release under way {LATER} by erika: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_is_named_while_it_is_there(schema: str, plant: Plant, who: str) -> None:
    assert named(schema) == []

    with plant(schema):
        (one,) = named(schema)
        assert who in one

    assert named(schema) == []


@pytest.mark.parametrize("release_id", [OWN, LATER])
def test_who_runs_this_release_or_a_later_one_speaks_no_old_form(schema: str, release_id: str) -> None:
    with session(schema, "cpq_api", f"api-1/{release_id}"):
        assert named(schema) == []


def test_people_who_only_look_are_asked_nothing(schema: str) -> None:
    with session(schema, "cpq_observer", "psql"):
        assert named(schema) == []


def test_a_standby_that_replays_behind_is_named(host: ReleasedHost, schema: str, standby: str) -> None:
    second = f"{host.address}:{PORT + 1}"
    assert named(schema, others=standby) == []
    on_standby(host, "SELECT pg_wal_replay_pause()")
    with psycopg.connect(schema, autocommit=True, application_name=f"tests/{OWN}") as connection:
        connection.execute("UPDATE cpq.tenant SET display_name = 'Other'")

    (one,) = named(schema, others=standby)
    assert f"standby {second} is " in one
    assert " bytes of log behind: " in one
    (unnamed,) = named(schema)
    assert "standby unknown: 1 servers receive the log, and DB_URL names 0 of them" in unnamed

    on_standby(host, "SELECT pg_wal_replay_resume()")
    assert named(schema, others=standby) == []
