"""Group order-projection: keeps cpq.order_projection equal to the last event of each order."""

from __future__ import annotations

from app.application.projections import OrderEvent, project_orders, read_order_event
from app.entrypoints.consumer.loop import ConsumerGroup

GROUP: ConsumerGroup[OrderEvent] = ConsumerGroup(name="order-projection", read=read_order_event, apply=project_orders)
