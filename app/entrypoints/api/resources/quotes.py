"""Quotes over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import falcon.asgi
import msgspec

from app.application.idempotency import Executed
from app.application.orders import OrderCommands
from app.application.queries import Queries
from app.application.quotes import QuoteCommands
from app.domain.commands import AcceptQuote, ConvertQuote, CreateQuote, PriceQuote, RequestedItem
from app.domain.order import OrderState
from app.domain.quote import Quote, QuoteState
from app.domain.values import CustomerId, OfferingId, QuoteId
from app.entrypoints.api import json_body, representations
from app.entrypoints.api.middleware import about
from app.entrypoints.api.preconditions import expected_version, idempotent_request, required_version
from app.entrypoints.api.representations import JSON, etag, quote_document
from app.runtime.metrics import OrderMetrics, QuoteMetrics


class ItemBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """One requested item."""

    offering_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class ValidForBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Until when the quote is to be valid."""

    end_date_time: Annotated[datetime, msgspec.Meta(tz=True)]


class CreateBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What a client may say about a new quote; everything else is ours to say."""

    customer_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$")]
    items: Annotated[list[ItemBody], msgspec.Meta(min_length=1, max_length=200)]
    valid_for: ValidForBody | msgspec.UnsetType = msgspec.UNSET


class EmptyBody(msgspec.Struct, forbid_unknown_fields=True):
    """A command that needs nothing but its address."""


class QuotesResource:
    """POST /v1/quotes."""

    def __init__(self, commands: QuoteCommands, metrics: QuoteMetrics) -> None:
        self._commands = commands
        self._metrics = metrics

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Create a quote."""
        body = await json_body.read(req, CreateBody)
        command = CreateQuote(
            customer_id=CustomerId(body.customer_id),
            currency=body.currency,
            items=tuple(RequestedItem(OfferingId(item.offering_id), item.quantity) for item in body.items),
            valid_until=body.valid_for.end_date_time if isinstance(body.valid_for, ValidForBody) else None,
        )
        request = idempotent_request(req, body)
        executed = await self._commands.create(command, req.context.actor, request, representations.created_quote)
        if not executed.replayed:
            self._metrics.reached(QuoteState.IN_PROGRESS)
        _answer_executed(resp, executed)


class QuoteResource:
    """GET /v1/quotes/{id}."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, quote_id: UUID) -> None:
        """Read a quote."""
        _answer_quote(resp, await self._queries.quote(QuoteId(quote_id), req.context.actor))


class QuotePriceResource:
    """POST /v1/quotes/{id}/price."""

    def __init__(self, commands: QuoteCommands, metrics: QuoteMetrics) -> None:
        self._commands = commands
        self._metrics = metrics

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, quote_id: UUID) -> None:
        """Price a quote."""
        await json_body.read(req, EmptyBody)
        command = PriceQuote(QuoteId(quote_id), expected_version(req))
        quote = await self._commands.price(command, req.context.actor)
        self._metrics.reached(quote.state)
        _answer_quote(resp, quote)


class QuoteAcceptResource:
    """POST /v1/quotes/{id}/accept."""

    def __init__(self, commands: QuoteCommands, metrics: QuoteMetrics) -> None:
        self._commands = commands
        self._metrics = metrics

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, quote_id: UUID) -> None:
        """Accept a quote at the version that was read: a price nobody saw is not accepted."""
        await json_body.read(req, EmptyBody)
        command = AcceptQuote(QuoteId(quote_id), required_version(req))
        quote = await self._commands.accept(command, req.context.actor)
        self._metrics.reached(quote.state)
        _answer_quote(resp, quote)


class QuoteConvertResource:
    """POST /v1/quotes/{id}/convert."""

    def __init__(self, commands: OrderCommands, metrics: OrderMetrics) -> None:
        self._commands = commands
        self._metrics = metrics

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, quote_id: UUID) -> None:
        """Turn an accepted quote into an order."""
        body = await json_body.read(req, EmptyBody)
        request = idempotent_request(req, body)
        command = ConvertQuote(QuoteId(quote_id), expected_version(req))
        executed = await self._commands.convert(command, req.context.actor, request, representations.created_order)
        about(order_id=executed.response.headers["Location"].rpartition("/")[2])
        if not executed.replayed:
            self._metrics.reached(OrderState.ACKNOWLEDGED)
        _answer_executed(resp, executed)


def _answer_quote(resp: falcon.asgi.Response, quote: Quote) -> None:
    resp.content_type = JSON
    resp.etag = etag(quote.version)
    resp.data = msgspec.json.encode(quote_document(quote))


def _answer_executed(resp: falcon.asgi.Response, executed: Executed) -> None:
    resp.status = executed.response.status_code
    for name, value in executed.response.headers.items():
        resp.set_header(name, value)
    resp.set_header("Idempotency-Replayed", "true" if executed.replayed else "false")
    resp.data = executed.response.body
