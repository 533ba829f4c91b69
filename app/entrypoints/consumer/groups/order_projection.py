"""Group order-projection: keeps cpq.order_projection equal to the last event of each order."""

from __future__ import annotations

from app.application.consumption import OrderEvent, read_order_event
from app.application.projections import project_orders
from app.entrypoints.consumer.loop import ConsumerGroup

NAME = "order-projection"


def group() -> ConsumerGroup[OrderEvent]:
    """The group's handler."""
    return ConsumerGroup(name=NAME, read=read_order_event, apply=project_orders)
