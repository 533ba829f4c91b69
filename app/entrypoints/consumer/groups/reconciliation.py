"""Group reconciliation: holds every event against its order and writes down what disagrees."""

from __future__ import annotations

from app.application.consumption import OrderEvent, read_order_event
from app.application.event_reconciliation import reconcile_orders
from app.entrypoints.consumer.loop import ConsumerGroup

NAME = "reconciliation"


def group() -> ConsumerGroup[OrderEvent]:
    """The group's handler."""
    return ConsumerGroup(name=NAME, read=read_order_event, apply=reconcile_orders)
