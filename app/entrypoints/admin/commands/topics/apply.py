"""Provisions topics and access to them as declared."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.kafka.administration import TopicsPlan, TopicsRefusedError, declared_access
from app.adapters.postgres.consumer_operations import ConsumerOperations
from app.adapters.postgres.pool import Connection
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    brokers: Annotated[int, typer.Option(min=1, help="Kafka brokers of this environment.")] = 1,
    grow: Annotated[
        bool, typer.Option("--grow", help="Also raise partition counts; relays must rest and groups be at the end.")
    ] = False,
) -> Outcome:
    """Create missing topics, repair settings and access. Deletes no topic and shrinks nothing.

    A topic with a key gets more partitions only with --grow, and only while no relay lives and each of its groups has
    read to the end: otherwise an order's next event, in another partition, may be applied before the ones before it.
    """
    session: Session = context.obj
    return asyncio.run(_apply(session, brokers, grow=grow))


async def _apply(session: Session, brokers: int, *, grow: bool) -> Outcome:
    # The first release provisions topics before there are grants: the owner writes the audit in every release alike.
    async with session.owner_database() as connection, session.audited(connection, "topics apply") as detail:
        if grow:
            await _refuse_while_events_are_on_their_way(session, connection, brokers)
        plan = await asyncio.to_thread(_provision, session, brokers, grow=grow)
        detail["changes"] = plan.changes
        return applied(plan.changes)


async def _refuse_while_events_are_on_their_way(session: Session, connection: Connection, brokers: int) -> None:
    operations = ConsumerOperations(connection)
    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        plan = await asyncio.to_thread(kafka.compare, topics, declared_access(topics, consumer_user), brokers)
    growing = [name for name in plan.grow if topics[name].partition_key is not None]
    problems = [f"relay {owner} lives; stop it first" for owner in await operations.living_relays() if growing]
    for name in growing:
        with session.event_log(name) as log:
            bounds = await asyncio.to_thread(log.bounds)
        positions = await operations.positions(name)
        problems += [
            f"{group} has {end - positions.get((group, number), 0)} events of {name}[{number}] to read"
            for group in topics[name].consumer_groups
            for number, (_, end) in bounds.items()
            if end > positions.get((group, number), 0)
        ]
    if problems:
        raise TopicsRefusedError(*problems)


def _provision(session: Session, brokers: int, *, grow: bool) -> TopicsPlan:
    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        plan = kafka.plan(topics, declared_access(topics, consumer_user), brokers, may_grow=grow)
        kafka.apply(plan, topics, brokers)
        return plan
