"""What each group beside the projection does with events: reactions, the audit export, findings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from app.adapters.postgres.pool import Connection
from app.application.export_verification import verify_export
from app.messaging.inbox import Record
from tests.support.consumers import go_to_the_end, record, rows, write
from tests.support.event_fixtures import StartUnit
from tests.support.event_unit import EventUnit
from tests.support.events import order_event
from tests.support.kafka import Kafka
from tests.support.waiting import eventually

StartGroup = Callable[[str], Awaitable[EventUnit]]


@pytest.fixture
async def start_group(kafka: Kafka, owner_connection: Connection, start_unit: StartUnit) -> AsyncIterator[StartGroup]:
    """Starts a group's consumer: the first time behind everything there is, then where the one before was."""
    begun: set[str] = set()

    async def start(group: str) -> EventUnit:
        if group not in begun:
            begun.add(group)
            await go_to_the_end(kafka, owner_connection, group)
        unit = start_unit("consumer", f"consumer-{group}", CONSUMER_GROUP=group)
        await asyncio.to_thread(unit.wait_ready)
        return unit

    yield start
    for group in begun:
        await go_to_the_end(kafka, owner_connection, group)


async def until(connection: Connection, statement: str, values: tuple[object, ...], expected: object) -> None:
    async def done() -> bool:
        return [tuple(row.values()) for row in await rows(connection, statement, *values)] == expected

    await eventually(done, f"{statement} gives {expected}")


def events_of(tenant: str, order: UUID) -> list[Record]:
    return [record(order_event(tenant, order, seq)) for seq in (1, 2, 3)]


async def test_reacting_groups_write_one_reaction_per_event_however_often_it_comes(
    kafka: Kafka, start_group: StartGroup, admin_connection: Connection, tenant: str
) -> None:
    for group in ("billing-trigger", "notification"):
        await start_group(group)
    order = uuid.uuid4()
    events = events_of(tenant, order)
    await write(kafka, *events, *events)

    await until(
        admin_connection,
        "SELECT consumer_group, step, state, runs, request ->> 'totalRecurring' FROM cpq.reaction WHERE order_id = %s "
        "ORDER BY step",
        (order,),
        [
            ("notification", "notify-customer-order-acknowledged", "pending", 0, "39.90"),
            ("notification", "notify-customer-order-completed", "pending", 0, "39.90"),
            ("billing-trigger", "trigger-billing", "pending", 0, "39.90"),
        ],
    )
    await until(
        admin_connection,
        "SELECT consumer_group, count(*) FROM cpq.inbox_event WHERE tenant_id = %s GROUP BY 1 ORDER BY 1",
        (tenant,),
        [("billing-trigger", 3), ("notification", 3)],
    )


EFFECTS = {
    "billing-trigger": ("reaction", "SELECT count(*) FROM cpq.reaction WHERE tenant_id = %s", (3,)),
    "notification": ("reaction", "SELECT count(*) FROM cpq.reaction WHERE tenant_id = %s", (1, 3)),
    "reconciliation": (
        "reconciliation_event",
        "SELECT count(*) FROM cpq.reconciliation_event WHERE tenant_id = %s",
        (1, 2, 3),
    ),
}
"""By group: the table of its effect, how many effects there are, and which of an order's three events have one."""


@pytest.mark.parametrize("group", EFFECTS)
async def test_a_group_killed_between_inbox_row_and_commit_has_each_effect_once(
    *,
    kafka: Kafka,
    start_group: StartGroup,
    owner_connection: Connection,
    admin_connection: Connection,
    tenant: str,
    group: str,
) -> None:
    table, effects, sequences = EFFECTS[group]
    order = uuid.uuid4()
    events = [order_event(tenant, order, seq) for seq in (1, 2, 3)]
    acting = [event.event_id for event in events if event.aggregate_seq in sequences]
    consumer = await start_group(group)
    # Nobody can write the effect: the transaction stands still behind its inbox rows.
    async with owner_connection.transaction():
        await owner_connection.execute(f"LOCK TABLE cpq.{table} IN SHARE MODE")
        await write(kafka, *map(record, events))
        await until(
            admin_connection,
            "SELECT count(*) FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid) "
            "WHERE NOT held.granted AND session.application_name LIKE %s",
            (f"consumer-{group}/%",),
            [(1,)],
        )
        consumer.kill()
    # An event without an effect may have come, and been committed, in a batch before.
    acted = "SELECT count(*) FROM cpq.inbox_event WHERE tenant_id = %s AND event_id = ANY (%s)"
    await until(admin_connection, acted, (tenant, acting), [(0,)])
    await until(admin_connection, effects, (tenant,), [(0,)])

    await start_group(group)

    await until(admin_connection, effects, (tenant,), [(len(sequences),)])
    await until(admin_connection, "SELECT count(*) FROM cpq.inbox_event WHERE tenant_id = %s", (tenant,), [(3,)])


def exported(folder: Path, tenant: str) -> dict[str, bytes]:
    """The files of a tenant, without what a killed process left beside them."""
    found = (path for path in (folder / tenant).glob("*") if not path.name.startswith("."))
    return {f"{tenant}/{path.name}": path.read_bytes() for path in found}


async def test_every_event_is_in_the_export_once_and_its_files_prove_it_whatever_was_killed(
    kafka: Kafka, start_group: StartGroup, admin_connection: Connection, tenant: str, tmp_path: Path
) -> None:
    orders = [uuid.uuid4() for _ in range(26)]
    events = [event for order in orders for event in events_of(tenant, order)]
    for chunk in range(0, len(events), 39):
        unit = await start_group("audit-export")
        await write(kafka, *events[chunk : chunk + 39])
        await asyncio.sleep(0.4 * (1 + chunk / 39))
        unit.kill()
    await start_group("audit-export")

    async def all_written() -> bool:
        [row] = await rows(
            admin_connection,
            "SELECT (SELECT max(last_sequence) FROM cpq.audit_export_segment WHERE tenant_id = %s AND written_at "
            "IS NOT NULL) AS written, (SELECT last_sequence FROM cpq.audit_export_chain WHERE tenant_id = %s) AS chained",
            tenant,
            tenant,
        )
        return bool(row["written"] == row["chained"] == len(events))

    await eventually(all_written, "every record is in a written segment")
    files = exported(tmp_path, tenant)
    assert verify_export(files) == []
    assert sum(len(content.splitlines()) for path, content in files.items() if path.endswith(".jsonl")) == len(events)


async def test_a_file_that_was_changed_or_lost_is_written_again_from_the_rows(
    kafka: Kafka, start_group: StartGroup, tenant: str, tmp_path: Path
) -> None:
    unit = await start_group("audit-export")
    await write(kafka, *events_of(tenant, uuid.uuid4()))

    async def written() -> bool:
        return f"{tenant}/manifest.json" in exported(tmp_path, tenant)

    await eventually(written, "the export has files")
    await asyncio.to_thread(unit.stop)
    before = exported(tmp_path, tenant)
    [segment] = [path for path in before if path.endswith(".jsonl")]
    (tmp_path / segment).write_bytes(before[segment].replace(b"39.90", b"39.91", 1))
    (tmp_path / tenant / "manifest.json").unlink()

    await start_group("audit-export")

    async def restored() -> bool:
        return before.items() <= exported(tmp_path, tenant).items()

    await eventually(restored, "the files are what they were")
    assert b"39.91" in exported(tmp_path, tenant)[f"{segment}.changed"]


async def test_reconciliation_finds_events_without_their_order_and_gaps_and_closes_what_comes_late(
    kafka: Kafka, start_group: StartGroup, admin_connection: Connection, tenant: str
) -> None:
    await start_group("reconciliation")
    order = uuid.uuid4()
    first, second, third = events_of(tenant, order)
    await write(kafka, first, third)
    findings = (
        "SELECT kind, aggregate_seq, resolved_at IS NULL FROM cpq.reconciliation_finding WHERE order_id = %s "
        "ORDER BY kind, aggregate_seq"
    )
    without_order = [("event-without-order", 1, True), ("event-without-order", 3, True)]
    await until(admin_connection, findings, (order,), [*without_order, ("sequence-gap", 3, True)])

    await write(kafka, second)

    await until(
        admin_connection,
        findings,
        (order,),
        [without_order[0], ("event-without-order", 2, True), without_order[1], ("sequence-gap", 3, False)],
    )
