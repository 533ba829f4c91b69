"""What applying the contract would do to topics and access to them."""

from __future__ import annotations

from typing import Annotated

import typer

from app.adapters.kafka.administration import declared_access
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    brokers: Annotated[int, typer.Option(min=1, help="Kafka brokers of this environment.")] = 1,
) -> Outcome:
    """List missing topics, other settings and other access; exit 3 when there are any.

    What would shrink a topic, or grow one with a key, another number of copies, and brokers that create topics by themselves are refused by
    name: a person has to decide. `topics diff` lists them beside the rest.
    """
    session: Session = context.obj
    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        return planned(kafka.plan(topics, declared_access(topics, consumer_user), brokers).changes)
