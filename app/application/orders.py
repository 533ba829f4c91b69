"""Converts an accepted quote into an order; what happens to the order afterwards is fulfillment's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.application.idempotency import Executed, IdempotentRequest, Response, execute_once
from app.application.offerings import OfferingReader
from app.application.ports import AuditEntry, UnitOfWork, UnitOfWorkFactory
from app.application.process_routing import ProcessRouting
from app.application.publication import Publication
from app.application.quotes import get_for_change
from app.domain.commands import ConvertQuote
from app.domain.errors import QuoteAlreadyConverted
from app.domain.fulfillment import FulfillmentTask, TaskState, WorkflowRequest
from app.domain.order import Order
from app.domain.values import Actor, OrderId
from app.runtime.clock import Clock
from app.runtime.ids import Ids


class OrderCommands:
    """What clients can do about orders."""

    def __init__(
        self,
        *,
        open_unit_of_work: UnitOfWorkFactory,
        offerings: OfferingReader,
        publication: Publication,
        routing: ProcessRouting,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._open_unit_of_work = open_unit_of_work
        self._offerings = offerings
        self._publication = publication
        self._routing = routing
        self._clock = clock
        self._ids = ids

    async def convert(
        self,
        command: ConvertQuote,
        actor: Actor,
        request: IdempotentRequest,
        render: Callable[[Order], Response],
    ) -> Executed:
        """Turn an accepted quote into an order, once per quote and once per Idempotency-Key.

        Order, items, transition, fulfillment tasks, pending workflow reference, audit entry, event and idempotency
        record commit together or not at all. The workflow engine is not asked: with it down, orders are accepted.

        Raises:
            DomainError: NotFound, VersionMismatch, QuoteAlreadyConverted, QuoteExpired, QuoteStateConflict,
                RequestInFlight, IdempotencyKeyReused.
        """
        enabled_flags = await self._routing.enabled_flags(actor.tenant_id)

        async def effect(uow: UnitOfWork) -> Response:
            return render(await self._convert(uow, command, actor, enabled_flags))

        return await execute_once(self._open_unit_of_work, self._clock, actor, request, effect)

    async def _convert(
        self, uow: UnitOfWork, command: ConvertQuote, actor: Actor, enabled_flags: frozenset[str]
    ) -> Order:
        quote = await get_for_change(uow, command.quote_id, command.expected_version)
        existing = await uow.orders.id_for_quote(quote.quote_id)
        if existing is not None:
            raise QuoteAlreadyConverted(f"The quote became order {existing}.")
        offerings = await self._offerings.read(uow, quote.catalog_version, [item.offering_id for item in quote.items])
        now = self._clock.now()
        change = Order.from_quote(quote, offerings, order_id=OrderId(self._ids.new()), actor=actor.principal, now=now)
        order = change.order
        choice = await self._routing.choose(uow, order, enabled_flags, now)
        await uow.orders.add(order, change.transition)
        await uow.fulfillment.add(
            [
                FulfillmentTask(order.order_id, order.tenant_id, step, TaskState.PENDING, now)
                for step in choice.process.steps
            ]
        )
        await uow.workflow_references.request(
            WorkflowRequest(
                order.order_id,
                order.tenant_id,
                choice.process.process_id,
                choice.process.variables_schema_version,
                now,
                choice.route_id,
                choice.reason,
                actor.traceparent,
            )
        )
        await uow.audit.append(
            AuditEntry(
                audit_id=self._ids.new(),
                actor=actor,
                action="order.create",
                target_type="order",
                target_id=str(order.order_id),
                occurred_at=now,
                reason=change.transition.reason,
                after={**_audited(order), "processId": choice.process.process_id},
            )
        )
        await uow.outbox.append([self._publication.of_order(change.event, actor.traceparent)])
        return order


def _audited(order: Order) -> Mapping[str, Any]:
    return {
        "state": order.state,
        "version": order.version,
        "quoteId": str(order.quote_id),
        "totalOneTime": str(order.total_one_time),
        "totalRecurring": str(order.total_recurring),
    }
