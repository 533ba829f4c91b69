"""Orders over HTTP: made by converting a quote, read here."""

from __future__ import annotations

from uuid import UUID

import falcon.asgi
import msgspec

from app.application.queries import Queries
from app.domain.values import OrderId
from app.entrypoints.api.middleware import about
from app.entrypoints.api.representations import JSON, etag, order_document


class OrderResource:
    """GET /v1/orders/{id}."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, order_id: UUID) -> None:
        """Read an order."""
        about(order_id=str(order_id))
        order = await self._queries.order(OrderId(order_id), req.context.actor)
        resp.content_type = JSON
        resp.etag = etag(order.version)
        resp.data = msgspec.json.encode(order_document(order))
