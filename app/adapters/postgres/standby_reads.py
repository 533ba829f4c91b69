"""Lets a standby answer the queries that app/contracts/standby_reads.yml names, while it is known to be fresh enough.

How old a standby's rows are is not asked of the standby: on an idle primary its last transaction is old though nothing is missing, and
one that hears nothing any more believes that it has everything. Instead each process notes, twice a second, how far the primary's log
has come. A standby that has replayed up to a note shows everything that was acknowledged before that note was taken. No clock but the
process's own is read, and nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import PASSING_ERRORS, Connection, Pool, make_pool
from app.contracts.loader import StandbyRead
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.metrics import ReadFallback, StandbyReadMetrics

log = get_logger(__name__)

_SQL = NamedBlocks("standby_reads")

# The reads of a standby are worth little waiting: the primary answers too.
_WAIT = timedelta(seconds=0.5)
# A standby that is back is used again within about this time, instead of the primary that was preferred without it.
_LIFETIME = timedelta(minutes=1)
_SILENCE_MS = 2000
_NOTE_INTERVAL_S = 0.5
_NOTES_KEPT = 120
# After a standby failed, reads go to the primary at once for that long.
_REST_S = 5.0


class Opened(Protocol):
    """Something that is open on a connection."""

    @property
    def connection(self) -> Connection:
        """The connection."""
        ...


T = TypeVar("T")
O = TypeVar("O", bound=Opened)  # noqa: E741 (the letter that says it)
OpenOn = Callable[[Pool], AbstractAsyncContextManager[O]]


class PrimaryPositions:
    """How far the primary's log had come, and when: what a standby's rows are dated by."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque(maxlen=_NOTES_KEPT)

    def note(self, asked_at: float, position: int) -> None:
        """Keep a position that the primary was at, or beyond, when it was asked; times never go back."""
        self._notes.append((asked_at, position))

    def staleness(self, replayed: int, now: float) -> float | None:
        """Return for how many seconds at most a server lags that shows the log up to `replayed`; None when no note tells."""
        return next((now - asked_at for asked_at, position in reversed(self._notes) if position <= replayed), None)


class StandbyReads:
    """Answers declared queries, from a standby where it can.

    Args:
        primary: answers whenever the standby may not.
        standby: from `standby_pool`, open while `following` is; None where there is no standby.
        declared: the queries by name, and how old their rows may be.
        metrics: is told who answered.
        clock: monotonic time.
    """

    def __init__(
        self,
        primary: Pool,
        standby: Pool | None,
        declared: Mapping[str, StandbyRead],
        metrics: StandbyReadMetrics,
        clock: Clock,
    ) -> None:
        self._primary, self._standby = primary, standby
        self._bounds = {query: read.staleness.total_seconds() for query, read in declared.items()}
        self._metrics, self._clock = metrics, clock
        self._positions = PrimaryPositions()
        self._rests_until = clock.monotonic()

    @asynccontextmanager
    async def following(self, primary: Pool) -> AsyncIterator[None]:
        """Keep the standby's connections open, and take notes of the primary's position by a pool that is not busy."""
        if self._standby is None:
            yield
            return
        async with self._standby:
            notes = asyncio.create_task(self._take_notes(primary))
            try:
                yield
            finally:
                notes.cancel()
                with suppress(asyncio.CancelledError):
                    await notes

    async def read(
        self,
        query: str,
        open_on: OpenOn[O],
        ask: Callable[[O], Awaitable[T | None]],
        *,
        failures: tuple[type[Exception], ...] = PASSING_ERRORS,
    ) -> T | None:
        """Ask the standby where that is allowed, and the primary where it is not or has nothing.

        Args:
            query: its name in the declaration.
            open_on: opens what `ask` reads by, on either pool.
            ask: may be called twice; None, that there is nothing, is only believed of the primary.
            failures: what `open_on` and `ask` raise where a server cannot be asked, or ends a query that is in the way of replay.

        Raises:
            KeyError: the query is not declared.
        """
        bound = self._bounds[query]
        if self._standby is not None:
            if self._clock.monotonic() < self._rests_until:
                self._metrics.fell_back(query, "unavailable")
            else:
                try:
                    found = await self._read_from_standby(self._standby, query, bound, open_on, ask)
                except failures as error:
                    log.warning("standby cannot be read", query=query, reason=type(error).__name__)
                    self._go_without(query)
                    found = None
                if found is not None:
                    return found
        async with open_on(self._primary) as opened:
            found = await ask(opened)
        self._metrics.read(query, "primary")
        return found

    async def _read_from_standby(
        self, pool: Pool, query: str, bound: float, open_on: OpenOn[O], ask: Callable[[O], Awaitable[T | None]]
    ) -> T | None:
        """Return what the standby has, or None after saying why the primary must be asked."""
        async with open_on(pool) as opened:
            replayed = await replayed_position(opened.connection)
            if replayed is None:
                # The primary was taken for want of a standby. It has a pool of its own.
                self._go_without(query)
                return None
            # Judged before a row is read: a standby only comes nearer.
            refusal = self._refusal(replayed, bound)
            found = None if refusal else await ask(opened)
        if found is None:
            self._metrics.fell_back(query, refusal or "absent")
        else:
            self._metrics.read(query, "standby")
        return found

    def _refusal(self, replayed: int, bound: float) -> ReadFallback | None:
        staleness = self._positions.staleness(replayed, self._clock.monotonic())
        if staleness is None:
            return "unknown"
        self._metrics.staleness(staleness)
        return "stale" if staleness > bound else None

    def _go_without(self, query: str) -> None:
        self._rests_until = self._clock.monotonic() + _REST_S
        self._metrics.fell_back(query, "unavailable")

    async def _take_notes(self, primary: Pool) -> None:
        while True:
            asked_at = self._clock.monotonic()
            # A primary that is away, or has just become a standby, leaves no note: what the standby shows then grows old.
            with suppress(*PASSING_ERRORS):
                async with primary.connection() as connection:
                    self._positions.note(asked_at, await primary_position(connection))
            await asyncio.sleep(_NOTE_INTERVAL_S)


async def primary_position(connection: Connection) -> int:
    """Return how far the log of this server, the primary, is on disk; a standby refuses (psycopg.Error)."""
    row = await (await connection.execute(_SQL["primary_position"])).fetchone()
    if row is None:
        raise LookupError("primary_position answered no row")
    position: int = row["position"]
    return position


async def replayed_position(connection: Connection) -> int | None:
    """Return how much of the primary's log this server shows; None of a primary."""
    row = await (await connection.execute(_SQL["server"])).fetchone()
    return row["replayed"] if row is not None and row["is_standby"] else None


def standby_pool(parameters: dict[str, Any], url: str, *, max_size: int) -> Pool | None:
    """Return a closed pool for `StandbyReads`, or None for an empty URL.

    Args:
        parameters: from `connection_parameters`, of the primary.
        url: of the cluster, preferring a standby.
        max_size: most connections at once.
    """
    if not url:
        return None
    return make_pool(
        {**parameters, "conninfo": url, "tcp_user_timeout": _SILENCE_MS},
        max_size=max_size,
        wait=_WAIT,
        lifetime=_LIFETIME,
    )
