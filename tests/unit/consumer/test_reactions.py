from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from app.application.consumption import OrderEvent, Tally, read_order_event
from app.application.event_reconciliation import FindingKind, KnownOrder, disagreements
from app.application.reactions import ReactionRequest, ReactionRule, react, reaction_to
from tests.unit.consumer.listed_inbox import ListedInbox
from tests.unit.consumer.records import record

BILLING = ReactionRule("trigger-billing", "billing", frozenset({"OrderCompleted"}))
NOTICES = ReactionRule("notify-customer", "notification", frozenset({"OrderAcknowledged", "OrderCompleted"}))


def event(seq: int) -> OrderEvent:
    return read_order_event(record(order=1, seq=seq, offset=seq))


@dataclass
class Unit(ListedInbox):
    """An inbox and a book in lists."""

    requested: list[ReactionRequest] = field(default_factory=list)

    @property
    def reactions(self) -> Unit:
        return self

    async def request(self, reactions: Sequence[ReactionRequest]) -> None:
        self.requested += reactions


async def test_an_event_asks_once_and_others_are_only_remembered() -> None:
    unit = Unit()

    tally = await react(BILLING)(unit, [event(1), event(3), event(3), event(2)])

    assert [reaction.step for reaction in unit.requested] == ["trigger-billing"]
    assert tally == Tally(applied=1, duplicate=1, stale=2)
    assert len(unit.seen) == 3


def test_each_kind_of_notice_has_a_step_of_its_own_and_so_a_key_of_its_own() -> None:
    steps = [reaction.step for seq in (1, 2, 3) if (reaction := reaction_to(NOTICES, event(seq)))]

    assert steps == ["notify-customer-order-acknowledged", "notify-customer-order-completed"]


def test_the_request_is_made_of_the_event_alone_with_exact_amounts() -> None:
    reaction = reaction_to(BILLING, event(3))

    assert reaction is not None
    assert reaction.request["totalOneTime"] == "10.00"
    assert reaction.request["eventId"] == str(event(3).entry.event_id)


def known(**changes: object) -> KnownOrder:
    states = {1: "acknowledged", 2: "inProgress", 3: "completed"}
    values: dict[str, object] = {
        "aggregate_seq": 3,
        "currency": "EUR",
        "total_one_time": Decimal("10.00"),
        "total_recurring": Decimal("1.5"),
        "states": states,
    }
    return KnownOrder(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        (known(), []),
        (None, [FindingKind.EVENT_WITHOUT_ORDER]),
        (known(aggregate_seq=2), [FindingKind.ORDER_BEHIND_EVENT]),
        (known(states={3: "failed"}), [FindingKind.STATE_DIFFERS]),
        (known(states={}), [FindingKind.STATE_DIFFERS]),
        (known(total_recurring=Decimal("1.51")), [FindingKind.TOTAL_DIFFERS]),
        (known(currency="USD"), [FindingKind.TOTAL_DIFFERS]),
    ],
)
def test_an_event_is_held_against_its_order(order: KnownOrder | None, kinds: list[FindingKind]) -> None:
    assert [kind for kind, _ in disagreements(event(3), order)] == kinds
