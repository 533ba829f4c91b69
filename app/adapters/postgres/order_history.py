"""What happened to an order, read by the observer from every table that knows of it, over all tenants; changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import PASSING_ERRORS, Connection, Pool
from app.adapters.postgres.standby_reads import StandbyReads

_SQL = NamedBlocks("order_history")

Row = dict[str, Any]
T = TypeVar("T")


class HistoryUnavailableError(Exception):
    """The database cannot be asked now; the message says why."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A connection that is looked through."""

    connection: Connection

    async def rows(self, block: str, parameters: dict[str, Any]) -> Sequence[Row]:
        cursor = await self.connection.execute(_SQL[block], parameters)
        return await cursor.fetchall()


@asynccontextmanager
async def _look(pool: Pool) -> AsyncIterator[_Look]:
    async with pool.connection() as connection:
        yield _Look(connection)


class OrderHistory:
    """Questions of the console, each one round trip."""

    def __init__(self, reads: StandbyReads) -> None:
        self._reads = reads

    async def order(self, order_id: UUID) -> tuple[Row, Sequence[Row]] | None:
        """An order and its history in order of time, or None where there is no such order.

        Raises:
            HistoryUnavailableError: the database does not answer.
        """

        async def ask(look: _Look) -> tuple[Row, Sequence[Row]] | None:
            found = await look.rows("order", {"order": order_id})
            if not found:
                return None
            return found[0], await look.rows("history", {"order": order_id, "quote": found[0]["quote_id"]})

        return await self._read("order", ask)

    async def recent(self) -> Sequence[Row]:
        """The newest orders.

        Raises:
            HistoryUnavailableError: the database does not answer.
        """
        return await self._rows("recent", {})

    async def fallout(self) -> Sequence[Row]:
        """Steps that wait for a person, oldest first.

        Raises:
            HistoryUnavailableError: the database does not answer.
        """
        return await self._rows("fallout", {})

    async def runs(self, command: str, limit: int) -> Sequence[Row]:
        """The newest runs of an operators' command.

        Raises:
            HistoryUnavailableError: the database does not answer.
        """
        return await self._rows("runs", {"command": command, "limit": limit})

    async def _rows(self, query: str, parameters: dict[str, Any]) -> Sequence[Row]:
        return await self._read(query, lambda look: look.rows(query, parameters)) or []

    async def _read(self, query: str, ask: Callable[[_Look], Awaitable[T | None]]) -> T | None:
        try:
            return await self._reads.read(query, _look, ask)
        except PASSING_ERRORS as error:
            raise HistoryUnavailableError(f"{type(error).__name__}: {error}") from error
