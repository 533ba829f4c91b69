"""Where topics and access to them differ from the contract."""

from __future__ import annotations

from typing import Annotated

import typer

from app.adapters.kafka.administration import declared_access
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    replication_factor: Annotated[int, typer.Option(min=1, help="Replicas per partition in this environment.")] = 1,
) -> Outcome:
    """List missing topics, too few partitions, other settings and other access; exit 3 when there are any.

    More partitions than declared, or another replication factor, is refused: a person has to decide.
    """
    session: Session = context.obj
    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        return planned(kafka.plan(topics, declared_access(topics, consumer_user), replication_factor).changes)
