"""The same late commits before two relays: one that remembers how far it read, as is often done, and ours.

The schedule is random and replays from its seed, which the name of a failing test shows.
"""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.adapters.postgres.outbox import PostgresRelayStore
from app.adapters.postgres.pool import Connection, Pool
from app.messaging.envelope import SHARDS, Envelope
from app.messaging.outbox import Leases, PendingEvent, Published, Settlement, Undelivered
from app.runtime.ids import UuidV7Ids
from tests.integration.conftest import OpenPool
from tests.support.events import append, order_event

LEASE = timedelta(seconds=30)
AGGREGATES, STEPS, AT_ONCE = 7, 160, 5

pytestmark = pytest.mark.usefixtures("own_outbox")


class CursorRelay:
    """Reads what is younger than the youngest event it has read: identifiers count up, so nothing can be missed. Or can it?"""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection, self._tenant, self._cursor = connection, tenant, UUID(int=0)
        self.published: list[UUID] = []

    async def move(self) -> None:
        cursor = await self._connection.execute(
            "SELECT event_id FROM cpq.outbox_event WHERE tenant_id = %s AND event_id > %s ORDER BY event_id",
            (self._tenant, self._cursor),
        )
        for row in await cursor.fetchall():
            self._cursor = row["event_id"]
            self.published.append(row["event_id"])


class ShardRelay:
    """Our store in the hands of relays that meet refusals, die between acknowledgement and mark, and are succeeded."""

    def __init__(self, pool: Pool, owner_connection: Connection, chance: random.Random) -> None:
        self._pool, self._owner_connection, self._chance = pool, owner_connection, chance
        self._generation, self._leases = 0, dict[int, int]()
        self._store = PostgresRelayStore(pool, "relay-0")
        self._zombie: tuple[PostgresRelayStore, Leases, list[PendingEvent]] | None = None
        self.published: list[Envelope] = []

    async def move(self) -> None:
        self._leases = dict(await self._store.hold(self._leases, LEASE))
        claimed = await self._store.claim(range(SHARDS), 10)
        outcomes = [Undelivered("no leader") if self._chance.random() < 0.4 else Published(0, None) for _ in claimed]
        self.published += [
            event.envelope for event, how in zip(claimed, outcomes, strict=True) if isinstance(how, Published)
        ]
        if self._chance.random() < 0.15:
            await self._die(claimed)
            return
        settlements = [
            Settlement(event.envelope.event_id, event.envelope.shard, how)
            for event, how in zip(claimed, outcomes, strict=True)
        ]
        await self._store.settle(self._leases, settlements)

    async def _die(self, claimed: list[PendingEvent]) -> None:
        """Leave a batch unmarked; the one that died before comes back to life and tries to mark its own."""
        if self._zombie is not None:
            store, leases, batch = self._zombie
            marks = [Settlement(each.envelope.event_id, each.envelope.shard, Published(0, None)) for each in batch]
            assert (await store.settle(leases, marks)).fenced == len(batch)
        self._zombie = (self._store, self._leases, claimed)
        await self._owner_connection.execute("UPDATE cpq.relay_shard_lease SET expires_at = now()")
        await self._owner_connection.execute("DELETE FROM cpq.relay_member")
        self._generation += 1
        self._store, self._leases = PostgresRelayStore(self._pool, f"relay-{self._generation}"), {}


class Writers:
    """Transactions that begin in one order and commit in another; of one aggregate only one at a time, as its row lock has it."""

    def __init__(self, pool: Pool, tenant: str, chance: random.Random) -> None:
        self._pool, self._tenant, self._chance, self._ids = pool, tenant, chance, UuidV7Ids()
        self._open: dict[UUID, tuple[AsyncExitStack, Envelope]] = {}
        self._sequences = dict.fromkeys((uuid.uuid4() for _ in range(AGGREGATES)), 0)
        self.committed: list[Envelope] = []

    async def begin(self) -> None:
        free = [each for each in self._sequences if each not in self._open]
        if len(self._open) == AT_ONCE or not free:
            return
        aggregate = self._chance.choice(free)
        self._sequences[aggregate] += 1
        event = order_event(self._tenant, aggregate, 1)
        event = replace(event, event_id=self._ids.new(), aggregate_seq=self._sequences[aggregate])
        stack = AsyncExitStack()
        connection = await stack.enter_async_context(self._pool.connection())
        await stack.enter_async_context(connection.transaction())
        await append(connection, self._tenant, [event])
        self._open[aggregate] = (stack, event)

    async def commit(self) -> None:
        if self._open:
            stack, event = self._open.pop(self._chance.choice(list(self._open)))
            await stack.aclose()
            self.committed.append(event)

    async def finish(self) -> None:
        while self._open:
            await self.commit()


@pytest.mark.parametrize("seed", [56, 2026])
async def test_a_relay_with_a_cursor_loses_late_commits_and_ours_loses_none_and_keeps_their_order(
    open_pool: OpenPool, owner_connection: Connection, admin_connection: Connection, tenant: str, seed: int
) -> None:
    chance = random.Random(seed)
    writers = Writers(await open_pool("api"), tenant, chance)
    naive = CursorRelay(admin_connection, tenant)
    ours = ShardRelay(await open_pool("relay"), owner_connection, chance)

    for _ in range(STEPS):
        action = chance.choice([writers.begin, writers.begin, writers.commit, writers.commit, naive.move, ours.move])
        await action()
    await writers.finish()
    await naive.move()
    for _ in range(60):
        await ours.move()

    committed = {event.event_id for event in writers.committed}
    assert committed - set(naive.published), "the schedule had no late commit"
    assert {event.event_id for event in ours.published} == committed
    in_order: dict[UUID, list[int]] = defaultdict(list)
    for event in ours.published:  # repeated ones count at their first appearance, as they do in an inbox
        if event.aggregate_seq not in in_order[event.aggregate_id]:
            in_order[event.aggregate_id].append(event.aggregate_seq)
    assert all(sequence == list(range(1, len(sequence) + 1)) for sequence in in_order.values()), in_order
