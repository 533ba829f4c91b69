"""The API's own description, as a document that anyone may read."""

from __future__ import annotations

from pathlib import Path

import falcon.asgi
import msgspec
import yaml

from app.entrypoints.api.representations import JSON


def as_json(document: Path) -> bytes:
    """Read app/contracts/openapi.yml and return it as JSON."""
    return msgspec.json.encode(yaml.safe_load(document.read_text(encoding="utf-8")))


class OpenApiResource:
    """GET /openapi.json."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Serve the document."""
        resp.content_type = JSON
        resp.data = self._document
