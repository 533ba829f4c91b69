"""Group billing-trigger: tells billing to start charging: a reaction per completed order, which a worker carries out."""

from __future__ import annotations

from app.application.consumption import OrderEvent, read_order_event
from app.application.reactions import ReactionRule, react
from app.entrypoints.consumer.loop import ConsumerGroup

NAME = "billing-trigger"


def group(rule: ReactionRule) -> ConsumerGroup[OrderEvent]:
    """The group's handler; `rule` is its reaction in contracts/consumer_groups.yml."""
    return ConsumerGroup(name=NAME, read=read_order_event, apply=react(rule))
