"""The API's own description, as a document that anyone may read."""

from __future__ import annotations

from pathlib import Path

import falcon.asgi
import msgspec
import yaml

from app.entrypoints.api.representations import JSON


class OpenApiResource:
    """GET /openapi.json."""

    def __init__(self, document: Path) -> None:
        self._body = msgspec.json.encode(yaml.safe_load(document.read_text(encoding="utf-8")))

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Serve app/contracts/openapi.yml as JSON."""
        resp.content_type = JSON
        resp.data = self._body
