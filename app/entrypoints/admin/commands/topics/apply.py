"""Provisions topics and access to them as declared."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.kafka.administration import TopicsPlan, declared_access
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    brokers: Annotated[int, typer.Option(min=1, help="Kafka brokers of this environment.")] = 1,
) -> Outcome:
    """Create missing topics, raise partition counts, repair settings and access. Deletes no topic and shrinks nothing."""
    session: Session = context.obj
    return asyncio.run(_apply(session, brokers))


async def _apply(session: Session, brokers: int) -> Outcome:
    # The first release provisions topics before there are grants: the owner writes the audit in every release alike.
    async with session.owner_database() as connection, session.audited(connection, "topics apply") as detail:
        plan = await asyncio.to_thread(_provision, session, brokers)
        detail["changes"] = plan.changes
        return applied(plan.changes)


def _provision(session: Session, brokers: int) -> TopicsPlan:
    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        plan = kafka.plan(topics, declared_access(topics, consumer_user), brokers)
        kafka.apply(plan, topics, brokers)
        return plan
