from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast
from uuid import UUID

import pytest

from app.adapters.memory.external_system import MemoryExternalSystem
from app.adapters.memory.unit_of_work import MemoryStore, MemoryUnitOfWork
from app.application.ports import CallName, CallNotDone, CallOutcome, CallRefused, CallUnknown
from app.application.reaction_runs import DueReaction, Reaction, ReactionPolicy, ReactionRunner
from app.domain.external_calls import AttemptState
from app.domain.order import Order, OrderItem, OrderState
from app.domain.quote import ItemAction
from app.domain.values import CustomerId, Money, OfferingId, OrderId, QuoteId, TenantId
from app.messaging.retry import Backoff
from tests.support.builders import NOON, CountingIds, SetClock

TENANT = TenantId("acme")
PATIENCE = timedelta(hours=24)
ORDER = OrderId(UUID(int=1))
REACTION = Reaction(
    reaction_id=UUID(int=9),
    tenant_id=TENANT,
    consumer_group="billing-trigger",
    kind="trigger-billing",
    order_id=ORDER,
    event_id=UUID(int=8),
    step="trigger-billing",
    external_system="billing",
    request={"orderId": str(ORDER), "tenantId": TENANT},
    runs=0,
)
KEY = f"ci:acme:{ORDER}:trigger-billing:1"


@dataclass
class Row:
    """A reaction's row."""

    reaction: Reaction
    state: str = "pending"
    error: str | None = None
    delays: list[tuple[timedelta, bool]] = field(default_factory=list)


class Desk:
    """One reaction, its order, and what is around them."""

    def __init__(self) -> None:
        self.store = MemoryStore(SetClock())
        self.row = Row(REACTION)
        self.billing = MemoryExternalSystem()
        self.calls: list[tuple[str, CallName]] = []
        item = OrderItem(
            item_no=1,
            action=ItemAction.ADD,
            offering_id=OfferingId("fiber-1000"),
            quantity=1,
            service_specification="internet-access",
            total_one_time=Money(Decimal("10.00"), "EUR"),
            total_recurring=Money(Decimal("1.50"), "EUR"),
        )
        self.store.rows.orders[ORDER] = Order(
            order_id=ORDER,
            tenant_id=TENANT,
            quote_id=QuoteId(UUID(int=2)),
            customer_id=CustomerId("customer-1"),
            currency="EUR",
            catalog_version=1,
            state=OrderState.COMPLETED,
            items=(item,),
            total_one_time=item.total_one_time,
            total_recurring=item.total_recurring,
            version=3,
            aggregate_seq=3,
            created_by="tests",
            created_at=NOON,
            updated_at=NOON,
        )
        self.runner = self.started()

    def started(self) -> ReactionRunner:
        """A process that was just started."""
        return ReactionRunner(
            queue=self,
            unit_of_work=lambda tenant_id: Unit(self, tenant_id),
            systems={"billing": self.billing},
            policies={"billing-trigger": ReactionPolicy(3, Backoff(1, 1), PATIENCE)},
            environment="ci",
            clock=self.store.clock,
            ids=CountingIds(),
            calls=self,
            concurrency=2,
        )

    async def due(self, limit: int) -> Sequence[DueReaction]:
        return [DueReaction(REACTION.reaction_id, TENANT)] if self.row.state == "pending" else []

    def call(self, system: str, outcome: CallName) -> None:
        self.calls.append((system, outcome))

    @property
    def attempts(self) -> list[AttemptState]:
        return [attempt.state for attempt in self.store.rows.fulfillment.attempts.values()]

    @property
    def cases(self) -> list[str]:
        return [case.error_code for case in self.store.rows.fulfillment.cases]


class Unit(MemoryUnitOfWork):
    """A transaction that sees the reaction; it is written when the rest is."""

    def __init__(self, desk: Desk, tenant_id: TenantId) -> None:
        super().__init__(desk.store, tenant_id)
        self._desk = desk
        self._row = replace(desk.row, delays=list(desk.row.delays))

    @property
    def reactions(self) -> Unit:
        return self

    async def claim(self, reaction_id: UUID, lease: timedelta) -> Reaction | None:
        self._row.reaction = replace(self._row.reaction, runs=self._row.reaction.runs + 1)
        return self._row.reaction

    async def finish(self, reaction_id: UUID, state: str, *, reference: str | None, error: str | None) -> None:
        self._row.state, self._row.error = state, error

    async def postpone(
        self, reaction_id: UUID, delay: timedelta, error: str, *, is_counted: bool, now: datetime
    ) -> None:
        self._row.delays.append((delay, is_counted))
        before = self._row.reaction
        if is_counted:
            self._row.reaction = replace(before, waiting_since=None)
        else:
            self._row.reaction = replace(before, runs=before.runs - 1, waiting_since=before.waiting_since or now)

    async def commit(self) -> None:
        await super().commit()
        self._desk.row = self._row


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_reaction_is_done_once_with_its_attempt_written_before(desk: Desk) -> None:
    await desk.runner.run_pass()

    assert (desk.row.state, desk.attempts, desk.calls) == ("done", [AttemptState.SUCCEEDED], [("billing", "done")])
    assert desk.billing.effects == {KEY: REACTION.request}
    assert (await desk.runner.run_pass()).attempted == 0


async def test_an_outcome_that_is_unknown_is_asked_for_before_anything_is_sent_again(desk: Desk) -> None:
    desk.billing.lost_replies = 1

    await desk.runner.run_pass()
    assert (desk.row.state, desk.attempts) == ("pending", [AttemptState.UNKNOWN])
    await desk.runner.run_pass()

    assert (desk.row.state, desk.attempts) == ("done", [AttemptState.SUCCEEDED])
    assert (desk.billing.calls, desk.billing.queries) == ([KEY], [KEY])


class DiedError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("has_acted", [True, False])
async def test_a_worker_that_dies_at_its_call_leaves_one_effect(desk: Desk, has_acted: bool) -> None:
    call = desk.billing.call

    async def die(key: str, request: dict[str, object]) -> CallOutcome:
        if has_acted:
            await call(key, request)
        raise DiedError

    desk.billing.call = die  # type: ignore[method-assign, assignment]
    with pytest.raises(DiedError):
        await desk.runner.run_pass()
    assert desk.attempts == [AttemptState.PREPARED]
    desk.billing.call = call  # type: ignore[method-assign]

    await desk.started().run_pass()

    assert desk.row.state == "done"
    assert list(desk.billing.effects) == [KEY]
    assert desk.billing.queries == [KEY]


async def test_runs_are_counted_and_end_in_a_case_for_a_person(desk: Desk) -> None:
    desk.billing.next_outcomes = [CallNotDone("busy")] * 5

    for _ in range(5):
        await desk.runner.run_pass()

    assert (desk.row.state, desk.row.reaction.runs) == ("failed", 3)
    assert desk.cases == ["runs-exhausted"]
    assert len(desk.billing.calls) == 3


async def test_a_run_that_could_not_try_is_not_counted(desk: Desk) -> None:
    pause = timedelta(seconds=15)
    desk.billing.next_outcomes = [CallNotDone("breaker is open", None, pause)] * 6

    for _ in range(6):
        await desk.runner.run_pass()

    assert (desk.row.state, desk.row.reaction.runs) == ("pending", 0)
    assert desk.row.delays == [(pause, False)] * 6


async def test_what_is_put_off_for_too_long_ends_in_a_case_for_a_person(desk: Desk) -> None:
    desk.billing.next_outcomes = [CallUnknown("accepted as 7, not finished yet", 202, timedelta(seconds=15))]
    desk.billing.next_answers = [CallUnknown("accepted as 7, not finished yet", 200, timedelta(seconds=15))] * 2
    await desk.runner.run_pass()
    clock = cast("SetClock", desk.store.clock)
    clock.advance(PATIENCE - timedelta(seconds=1))
    await desk.runner.run_pass()
    assert desk.row.state == "pending"

    clock.advance(timedelta(seconds=1))
    await desk.runner.run_pass()

    assert (desk.row.state, desk.cases) == ("failed", ["put-off-too-long"])
    assert desk.billing.calls == [KEY]


async def test_a_refusal_is_final(desk: Desk) -> None:
    desk.billing.next_outcomes = [CallRefused("no such customer", 422)]

    await desk.runner.run_pass()

    assert (desk.row.state, desk.row.error, desk.cases) == ("failed", "refused: no such customer", ["refused"])


async def test_what_stays_unknown_is_said_to_be_unknown(desk: Desk) -> None:
    desk.billing.next_outcomes = [CallUnknown("no answer")]
    desk.billing.is_silent = True

    for _ in range(4):
        await desk.runner.run_pass()

    assert (desk.row.state, desk.cases) == ("failed", ["outcome-unknown"])
    assert desk.billing.calls == [KEY]


async def test_nothing_is_done_outside_for_an_order_that_does_not_exist(desk: Desk) -> None:
    desk.store.rows.orders.clear()

    await desk.runner.run_pass()

    assert (desk.row.state, desk.row.error, desk.billing.calls) == ("failed", "unknown-order", [])


async def test_a_reaction_that_nobody_declares_any_more_falls_out(desk: Desk) -> None:
    desk.row.reaction = replace(REACTION, external_system="telegraph")

    await desk.runner.run_pass()

    assert (desk.row.state, desk.cases) == ("failed", ["not-declared"])
