"""Says where a group goes on."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.consumer_operations import ConsumerOperations
from app.application.operations import OperationError
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.messaging.inbox import Partition


class MoveRefusedError(OperationError):
    """The group does not read there, or the log has no such place; nothing was changed."""


def command(
    context: typer.Context,
    group: Annotated[str, typer.Argument(help="The consumer group.")],
    topic: Annotated[str, typer.Argument(help="A topic that the group reads.")],
    *,
    to: Annotated[str, typer.Option(help="oldest: all that Kafka still has; newest: only what comes; or an offset.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
    partition: Annotated[int | None, typer.Option(min=0, help="One partition; all of the topic without it.")] = None,
) -> Outcome:
    """Set where a group goes on, which also ends a halt of a lost position or of the limit.

    Moved back, events come again and the inbox drops those that the group has seen. Moved ahead, what lies between is
    never applied. A group that is new on a topic whose oldest events are gone begins with --to oldest or newest.
    """
    session: Session = context.obj
    topics, _ = session.kafka_contract()
    if topic not in topics or group not in topics[topic].consumer_groups:
        raise MoveRefusedError(f"group {group} does not read {topic}")
    with session.event_log(topic) as log:
        bounds = log.bounds()
    if partition is not None and partition not in bounds:
        raise MoveRefusedError(f"{topic} has {len(bounds)} partitions, none is {partition}")
    chosen = bounds if partition is None else {partition: bounds[partition]}
    places = {Partition(topic, number): _place(to, *limits) for number, limits in chosen.items()}
    return asyncio.run(_move(session, group, places, RepairReason(session.operator, reason)))


def _place(to: str, oldest: int, end: int) -> int:
    if to in {"oldest", "newest"}:
        return oldest if to == "oldest" else end
    if not (to.isascii() and to.isdigit()):
        raise typer.BadParameter("expected oldest, newest or an offset", param_hint="--to")
    if not oldest <= int(to) <= end:
        raise MoveRefusedError(f"the log has offsets from {oldest} up to {end}, not {to}")
    return int(to)


async def _move(session: Session, group: str, places: dict[Partition, int], reason: RepairReason) -> Outcome:
    async with session.audited_transaction("consumers move", reason.text) as (connection, detail):
        operations = ConsumerOperations(connection)
        moves = []
        for partition, offset in places.items():
            before = (await operations.positions(partition.topic)).get((group, partition.number))
            await operations.move(group, partition, offset)
            moves.append({"partition": str(partition), "from": before, "to": offset})
        detail.update(group=group, moves=moves)
    return applied([f"{group} goes on in {move['partition']} at {move['to']}" for move in moves])
