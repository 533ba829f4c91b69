"""The catalog over HTTP."""

from __future__ import annotations

import falcon.asgi
import msgspec

from app.application.queries import Queries
from app.entrypoints.api.representations import JSON, catalog_document


class OfferingsResource:
    """GET /v1/catalog/offerings."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """List what the tenant's active catalog version sells."""
        catalog = await self._queries.catalog(req.context.actor)
        resp.content_type = JSON
        resp.data = msgspec.json.encode(catalog_document(catalog))
