"""Carries out reactions: each effect outside once, whatever is lost or killed on the way.

As with the steps of fulfillment, a run is counted and its call written down before the call goes out; a call whose
outcome is unknown is asked for before anything is sent again. A reaction has no process behind it: when its runs are
used up it fails, and a fallout case tells a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from app.application.ports import (
    AuditEntry,
    CallDone,
    CallNotDone,
    CallObserver,
    CallOutcome,
    CallRefused,
    CallUnknown,
    ConcurrentChange,
    ExternalSystem,
    StoreUnavailable,
    UnitOfWork,
)
from app.application.written_calls import StepCall, WrittenCalls, outcome_name
from app.domain.external_calls import FIRST_EPOCH, ExternalCallAttempt
from app.domain.fulfillment import FalloutCase
from app.domain.values import Actor, OrderId, TenantId
from app.messaging.retry import Backoff
from app.runtime.clock import Clock
from app.runtime.ids import Ids
from app.runtime.logging import get_logger
from app.runtime.tracing import follow, late_span, tag

log = get_logger(__name__)

PRINCIPAL = "cpq-oms-worker"
_BATCH = 20
# A worker that dies after its claim costs the reaction this long; three calls and their transactions fit into it.
_LEASE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What is to be done, and how often it was begun, this run included.

    `waiting_since` is when the external system first put off what it was last asked for.
    """

    reaction_id: UUID
    tenant_id: TenantId
    consumer_group: str
    kind: str
    order_id: OrderId
    event_id: UUID
    step: str
    external_system: str
    request: Mapping[str, Any]
    runs: int
    waiting_since: datetime | None = None
    traceparent: str | None = None

    @property
    def call(self) -> StepCall:
        """What goes out for it."""
        return StepCall(self.tenant_id, self.order_id, self.step, self.external_system, self.request)


@dataclass(frozen=True, slots=True)
class DueReaction:
    """A pending reaction whose time has come."""

    reaction_id: UUID
    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class ReactionPolicy:
    """How often a reaction is begun, how long it rests in between, and how long the system may put it off."""

    max_runs: int
    backoff: Backoff
    patience: timedelta


class ReactionQueue(Protocol):
    """Due reactions of all tenants: their names only."""

    async def due(self, limit: int) -> Sequence[DueReaction]:
        """The reactions that have waited longest.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...


class ReactionRepository(Protocol):
    """Reactions of the transaction's tenant."""

    async def claim(self, reaction_id: UUID, lease: timedelta) -> Reaction | None:
        """Count a run and push the next one `lease` ahead; None when somebody else has it or it is settled."""
        ...

    async def finish(self, reaction_id: UUID, state: str, *, reference: str | None, error: str | None) -> None:
        """Settle a pending reaction as done or failed."""
        ...

    async def postpone(
        self, reaction_id: UUID, delay: timedelta, error: str, *, is_counted: bool, now: datetime
    ) -> None:
        """Try again after `delay`; a run that is not counted is given back, and `now` kept when it is the first."""
        ...


class ReactionUnitOfWork(UnitOfWork, Protocol):
    """One transaction of one tenant that sees its reactions, too."""

    @property
    def reactions(self) -> ReactionRepository: ...


ReactionUnitFactory = Callable[[TenantId], AbstractAsyncContextManager[ReactionUnitOfWork]]


@dataclass(frozen=True, slots=True)
class ReactionPass:
    """What one look at the queue came to."""

    attempted: int = 0
    is_more_due: bool = False
    problem: str | None = None


class ReactionRunner:
    """Carries out what is due.

    Args:
        queue: due reactions.
        unit_of_work: opens a tenant's transaction.
        systems: the external systems, by name.
        policies: by consumer group.
        environment: part of every idempotency key.
        clock: time for the records.
        ids: identifiers for the records.
        calls: told of calls that went out.
        concurrency: reactions at a time.
    """

    def __init__(
        self,
        *,
        queue: ReactionQueue,
        unit_of_work: ReactionUnitFactory,
        systems: Mapping[str, ExternalSystem],
        policies: Mapping[str, ReactionPolicy],
        environment: str,
        clock: Clock,
        ids: Ids,
        calls: CallObserver,
        concurrency: int,
    ) -> None:
        self._queue = queue
        self._unit_of_work = unit_of_work
        self._systems = systems
        self._policies = policies
        self._written = WrittenCalls(unit_of_work=unit_of_work, environment=environment, clock=clock, ids=ids)
        self._clock = clock
        self._ids = ids
        self._calls = calls
        self._slots = asyncio.Semaphore(concurrency)

    async def run_pass(self) -> ReactionPass:
        """Carry out one batch of due reactions; each is settled, postponed, or comes back by itself."""
        try:
            due = await self._queue.due(_BATCH)
        except StoreUnavailable as error:
            return ReactionPass(problem=str(error))
        problems = await asyncio.gather(*(self._run(reaction) for reaction in due))
        problem = next((found for found in problems if found), None)
        return ReactionPass(len(due), len(due) == _BATCH, problem)

    async def _run(self, due: DueReaction) -> str | None:
        async with self._slots:
            try:
                await self._carry_out(due)
            except StoreUnavailable as error:
                return str(error)
            except ConcurrentChange as error:
                # Another run of the step is faster; this one is due again after its lease.
                log.info("reaction left to another run", reaction_id=str(due.reaction_id), reason=str(error))
        return None

    async def _carry_out(self, due: DueReaction) -> None:
        with late_span("reaction", "consumer", attributes={"cpq.reaction_id": str(due.reaction_id)}):
            begun = await self._begin(due)
            if begun is not None:
                await self._call(*begun)

    async def _call(self, reaction: Reaction, attempt: ExternalCallAttempt, was_open: bool) -> None:
        system = self._systems[reaction.external_system]
        if was_open:
            found = await system.find(attempt.idempotency_key)
            if not isinstance(found, CallNotDone):
                await self._record(reaction, attempt, found)
                return
            attempt = await self._written.prepare_again(reaction.call, attempt, found)
        outcome = await system.call(attempt.idempotency_key, reaction.request)
        self._calls.call(reaction.external_system, outcome_name(outcome))
        await self._record(reaction, attempt, outcome)

    async def _begin(self, due: DueReaction) -> tuple[Reaction, ExternalCallAttempt, bool] | None:
        """Count the run and write down the call; the call, and whether an earlier one has to be asked for first."""
        async with self._unit_of_work(due.tenant_id) as uow:
            reaction = await uow.reactions.claim(due.reaction_id, _LEASE)
            if reaction is None:
                return None
            follow(reaction.traceparent)
            tag(order_id=str(reaction.order_id), tenant=reaction.tenant_id, kind=reaction.kind)
            if await uow.orders.get(reaction.order_id) is None:
                # An order that only the event knows: nothing is done outside for it, and reconciliation names it.
                await uow.reactions.finish(reaction.reaction_id, "failed", reference=None, error="unknown-order")
                log.error("reaction without an order", reaction_id=str(due.reaction_id), tenant=due.tenant_id)
                await uow.commit()
                return None
            policy = self._policies.get(reaction.consumer_group)
            if policy is None or reaction.external_system not in self._systems:
                await self._fall_out(uow, reaction, "not-declared", "its group or external system is not declared")
                await uow.commit()
                return None
            if reaction.runs > policy.max_runs:
                await self._fall_out(uow, reaction, "runs-exhausted", "every run died")
                await uow.commit()
                return None
            attempt = await uow.fulfillment.last_attempt(reaction.order_id, reaction.step)
            was_open = attempt is not None and attempt.is_open
            if attempt is None or not was_open:
                epoch = FIRST_EPOCH if attempt is None else attempt.epoch
                attempt = await self._written.prepare(uow, reaction.call, attempt, epoch=epoch)
            await uow.commit()
        return reaction, attempt, was_open

    async def _record(self, reaction: Reaction, attempt: ExternalCallAttempt, outcome: CallOutcome) -> None:
        """Write down what became of a call and what follows from it."""
        policy = self._policies[reaction.consumer_group]
        now = self._clock.now()
        has_waited = reaction.waiting_since is not None and now - reaction.waiting_since >= policy.patience
        async with self._unit_of_work(reaction.tenant_id) as uow:
            await self._written.close(uow, attempt, outcome)
            match outcome:
                case CallDone():
                    await self._done(uow, reaction, outcome)
                case CallRefused():
                    await self._fall_out(uow, reaction, "refused", outcome.error)
                case CallNotDone(retry_after=pause) | CallUnknown(retry_after=pause) if pause is not None:
                    if has_waited:
                        await self._fall_out(uow, reaction, "put-off-too-long", outcome.error)
                    else:
                        await uow.reactions.postpone(
                            reaction.reaction_id, pause, outcome.error, is_counted=False, now=now
                        )
                case CallNotDone() | CallUnknown() if reaction.runs >= policy.max_runs:
                    code = "outcome-unknown" if isinstance(outcome, CallUnknown) else "runs-exhausted"
                    await self._fall_out(uow, reaction, code, outcome.error)
                case CallNotDone() | CallUnknown():
                    delay = timedelta(seconds=policy.backoff.delay(reaction.runs))
                    await uow.reactions.postpone(reaction.reaction_id, delay, outcome.error, is_counted=True, now=now)
            await uow.commit()

    async def _done(self, uow: ReactionUnitOfWork, reaction: Reaction, done: CallDone) -> None:
        await uow.reactions.finish(reaction.reaction_id, "done", reference=done.reference, error=None)
        log.info("reaction done", order_id=str(reaction.order_id), tenant=reaction.tenant_id, kind=reaction.kind)
        await self._audit(uow, reaction, "reaction.complete", None, {"state": "done", "reference": done.reference})

    async def _fall_out(self, uow: ReactionUnitOfWork, reaction: Reaction, code: str, detail: str) -> None:
        """Give up and open a case for a person."""
        await uow.reactions.finish(reaction.reaction_id, "failed", reference=None, error=f"{code}: {detail}")
        case = FalloutCase(
            self._ids.new(),
            reaction.tenant_id,
            reaction.order_id,
            reaction.step,
            code,
            f"reaction {reaction.reaction_id}: {detail}",
            self._clock.now(),
        )
        await uow.fulfillment.open_fallout(case)
        await self._audit(uow, reaction, "reaction.fallOut", f"{code}: {detail}", {"state": "failed"})
        log.error("fallout", order_id=str(reaction.order_id), step=reaction.step, error_code=code, detail=detail)

    async def _audit(
        self, uow: ReactionUnitOfWork, reaction: Reaction, action: str, reason: str | None, after: Mapping[str, Any]
    ) -> None:
        actor = Actor(reaction.tenant_id, PRINCIPAL, f"reaction:{reaction.reaction_id}")
        await uow.audit.append(
            AuditEntry(
                audit_id=self._ids.new(),
                actor=actor,
                action=action,
                target_type="reaction",
                target_id=f"{reaction.order_id}/{reaction.step}",
                occurred_at=self._clock.now(),
                reason=reason,
                before={"state": "pending"},
                after=after,
            )
        )
