"""A standby answers declared queries while it is known to be fresh enough; the primary answers everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self, cast

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from app.adapters.memory.declared_reads import MemoryDeclaredReads
from app.adapters.memory.unit_of_work import MemoryStore
from app.adapters.postgres.pool import Connection, Pool
from app.adapters.postgres.standby_reads import PrimaryPositions, StandbyReads
from app.application.queries import Queries
from app.application.refusals import NotFound
from app.contracts.loader import StandbyRead, load_standby_reads
from app.domain.errors import NoActiveCatalog
from app.domain.values import Actor, OrderId, QuoteId, TenantId
from app.runtime.ids import UuidV7Ids
from app.runtime.metrics import StandbyReadMetrics
from tests.support.builders import SetClock

BOUND = {"order": StandbyRead(staleness="PT2S", because="the test says so")}


class Server:
    """A server and its pool: what it answers to the two questions, and the row it shows."""

    def __init__(self, row: str | None, *, is_standby: bool) -> None:
        self.row, self.is_standby = row, is_standby
        self.position = 100
        self.is_away = False
        self.asked = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Server]:
        if self.is_away:
            raise psycopg.OperationalError("the server is away")
        yield self

    async def execute(self, statement: str) -> Server:
        self.statement = statement
        return self

    async def fetchone(self) -> dict[str, Any]:
        if "pg_is_in_recovery" in self.statement:
            return {"is_standby": self.is_standby, "replayed": self.position}
        return {"position": self.position}


class Look:
    """What is open on a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = cast("Connection", server)


@asynccontextmanager
async def look(pool: Pool) -> AsyncIterator[Look]:
    async with cast("Server", pool).connection() as server:
        yield Look(server)


async def row(opened: Look) -> str | None:
    opened.server.asked += 1
    return opened.server.row


class World:
    """A primary and a standby that a process reads."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.registry = CollectorRegistry()
        self.primary = Server("new", is_standby=False)
        self.standby = Server("old", is_standby=True)
        self.reads = StandbyReads(
            cast("Pool", self.primary),
            cast("Pool", self.standby),
            BOUND,
            StandbyReadMetrics(self.registry),
            self.clock,
        )

    async def ask(self) -> str | None:
        return await self.reads.read("order", look, row)

    async def note(self) -> None:
        """Take a note of the primary's position, as following does."""
        async with self.reads.following(cast("Pool", self.primary)):
            for _ in range(10):
                await asyncio.sleep(0)

    def fallbacks(self, reason: str) -> float:
        labels = {"query": "order", "reason": reason}
        return self.registry.get_sample_value("cpq_db_read_fallbacks_total", labels) or 0

    def answered(self, server: str) -> float:
        return self.registry.get_sample_value("cpq_db_reads_total", {"query": "order", "server": server}) or 0


@pytest.fixture
def world() -> World:
    return World()


async def test_a_standby_that_has_everything_answers(world: World) -> None:
    await world.note()

    assert await world.ask() == "old"
    assert (world.answered("standby"), world.answered("primary"), world.primary.asked) == (1, 0, 0)


async def test_an_idle_primary_makes_no_standby_stale(world: World) -> None:
    await world.note()
    world.clock.advance(timedelta(seconds=3600))
    await world.note()

    assert await world.ask() == "old"


async def test_replay_that_stands_still_is_stale_beyond_the_bound_and_not_before(world: World) -> None:
    await world.note()
    world.primary.position = 101
    world.clock.advance(timedelta(seconds=2))
    await world.note()
    assert await world.ask() == "old"

    world.clock.advance(timedelta(seconds=0.001))
    await world.note()
    assert await world.ask() == "new"
    assert world.fallbacks("stale") == 1

    world.standby.position = 101
    assert await world.ask() == "old"


async def test_a_standby_is_not_believed_when_nobody_knows_how_far_the_primary_is(world: World) -> None:
    assert await world.ask() == "new"
    assert world.fallbacks("unknown") == 1

    await world.note()
    world.primary.is_away = True
    world.clock.advance(timedelta(seconds=2.001))
    await world.note()
    with pytest.raises(psycopg.OperationalError):
        await world.ask()
    assert world.fallbacks("stale") == 1


async def test_a_standby_never_says_that_something_is_not_there(world: World) -> None:
    await world.note()
    world.standby.row = None

    assert await world.ask() == "new"
    assert world.fallbacks("absent") == 1


def _away(world: World) -> None:
    world.standby.is_away = True


def _promoted(world: World) -> None:
    world.standby.is_standby = False


@pytest.mark.parametrize("happens", [_away, _promoted])
async def test_without_a_standby_the_primary_answers_and_the_standby_is_left_alone_for_a_while(
    world: World, happens: Callable[[World], None]
) -> None:
    await world.note()
    happens(world)
    assert [await world.ask(), await world.ask()] == ["new", "new"]
    assert world.fallbacks("unavailable") == 2

    world.standby.is_away, world.standby.is_standby = False, True
    assert await world.ask() == "new"
    world.clock.advance(timedelta(seconds=5))
    await world.note()
    assert await world.ask() == "old"


async def test_a_query_that_nobody_declared_is_a_defect(world: World) -> None:
    with pytest.raises(KeyError):
        await world.reads.read("quote", look, row)


async def test_where_there_is_no_standby_the_primary_answers(world: World) -> None:
    reads = StandbyReads(cast("Pool", world.primary), None, BOUND, StandbyReadMetrics(CollectorRegistry()), world.clock)
    async with reads.following(cast("Pool", world.primary)):
        assert await reads.read("order", look, row) == "new"
    assert world.standby.asked == 0


def test_the_newest_note_that_a_standby_has_reached_dates_it() -> None:
    positions = PrimaryPositions()
    assert positions.staleness(10, 0) is None
    for at, position in ((1.0, 10), (2.0, 10), (3.0, 20)):
        positions.note(at, position)

    assert positions.staleness(20, 3.5) == 0.5
    assert positions.staleness(19, 3.5) == 1.5
    assert positions.staleness(9, 3.5) is None


async def test_what_clients_ask_is_declared_and_quotes_are_not() -> None:
    store = MemoryStore(SetClock())
    reads = MemoryDeclaredReads(store.unit_of_work)
    queries, actor, some_id = Queries(store.unit_of_work, reads), Actor(TenantId("acme"), "ada"), UuidV7Ids().new()
    with pytest.raises(NotFound):
        await queries.order(OrderId(some_id), actor)
    with pytest.raises(NoActiveCatalog):
        await queries.catalog(actor)
    with pytest.raises(NotFound):
        await queries.quote(QuoteId(some_id), actor)

    assert sorted(reads.asked) == sorted(load_standby_reads("api"))
