"""Reactions in PostgreSQL, as a consumer writes them down; see `app.application.reactions`."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.reactions import ReactionRequest
from app.runtime.ids import Ids

_SQL = NamedBlocks("reactions")


class PostgresReactionBook:
    """The reactions of one tenant and group, in the transaction of the connection."""

    def __init__(self, connection: Connection, group: str, tenant_id: str, ids: Ids) -> None:
        self._connection = connection
        self._group = group
        self._tenant_id = tenant_id
        self._ids = ids

    async def request(self, reactions: Sequence[ReactionRequest]) -> None:
        rows = [
            {
                "reaction_id": self._ids.new(),
                "tenant_id": self._tenant_id,
                "group": self._group,
                "kind": reaction.kind,
                "order_id": reaction.order_id,
                "event_id": reaction.event_id,
                "step": reaction.step,
                "external_system": reaction.external_system,
                "request": Jsonb(dict(reaction.request)),
            }
            for reaction in reactions
        ]
        async with self._connection.cursor() as cursor:
            await cursor.executemany(_SQL["request"], rows)
