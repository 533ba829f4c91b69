"""Where the cluster and the contract differ, whether or not anything here would repair it."""

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
    """List every difference: what `topics apply` would change, what it refuses, and undeclared topics; exit 3 when any."""
    session: Session = context.obj
    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        found = kafka.compare(topics, declared_access(topics, consumer_user), brokers)
    undeclared = [f"topic {name} is not declared" for name in found.undeclared]
    return planned([*found.changes, *found.refused, *undeclared])
