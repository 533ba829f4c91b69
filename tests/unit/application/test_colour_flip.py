from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from app.adapters.memory.role_epochs import MemoryRoleEpochs
from app.application.colour_flip import EpochBusyError, FlipRefusedError, flip, planned_flips
from app.messaging.colours import Colour, RoleEpoch
from tests.support.colours import REASON, ColouredProcess


class HandClock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Environment:
    clock: HandClock
    epochs: MemoryRoleEpochs
    stack: AsyncExitStack

    async def start(self, role: str, colour: Colour) -> None:
        process = ColouredProcess(self.clock, colour, role, f"{role}-{colour}", epochs=self.epochs)
        await self.stack.enter_async_context(process.standing)


@pytest.fixture
async def environment() -> AsyncIterator[Environment]:
    clock = HandClock()
    async with AsyncExitStack() as stack:
        yield Environment(clock, MemoryRoleEpochs(clock), stack)


async def test_a_colour_takes_over_in_the_next_epoch_and_gives_back_in_the_one_after(environment: Environment) -> None:
    await environment.start("relay", Colour.NONE)
    await environment.start("relay", Colour.GREEN)

    [forth] = await flip(environment.epochs, ["relay"], Colour.GREEN, REASON)
    [back] = await flip(environment.epochs, ["relay"], Colour.NONE, REASON)

    assert forth.sentence == "relay: none to green, epoch 0 to 1"
    assert (back.before, back.after) == (RoleEpoch(1, Colour.GREEN), RoleEpoch(2, Colour.NONE))
    [state] = await environment.epochs.roles()
    assert (state.changed_by, state.reason) == (REASON.operator, REASON.text)


async def test_nothing_changes_for_a_colour_that_works(environment: Environment) -> None:
    await environment.start("relay", Colour.GREEN)
    await flip(environment.epochs, ["relay"], Colour.GREEN, REASON)

    assert await flip(environment.epochs, ["relay"], Colour.GREEN, REASON) == []


async def test_a_colour_of_which_no_process_lives_is_refused_by_the_roles_that_lack_one(
    environment: Environment,
) -> None:
    await environment.start("relay", Colour.GREEN)
    await environment.start("consumer@notification", Colour.BLUE)
    await environment.start("worker@starter", Colour.GREEN)
    environment.clock.seconds += 60  # frozen, or dead without a word
    await environment.start("relay", Colour.GREEN)

    roles = ["relay", "consumer@notification", "worker@starter"]
    with pytest.raises(FlipRefusedError) as refused:
        await flip(environment.epochs, roles, Colour.GREEN, REASON)

    assert refused.value.problems == tuple(
        f"{role}: no live process of green is registered; start one before"
        for role in ("consumer@notification", "worker@starter")
    )
    assert await environment.epochs.roles() == [], "all of them or none"


async def test_a_plan_changes_nothing(environment: Environment) -> None:
    await environment.start("relay", Colour.BLUE)

    [planned] = await planned_flips(environment.epochs, ["relay"], Colour.BLUE)

    assert planned.sentence == "relay: none to blue, epoch 0 to 1"
    assert await environment.epochs.roles() == []


class BusyEpochs(MemoryRoleEpochs):
    """One session stands still within its transaction."""

    async def hold(self, role: str) -> None:
        raise EpochBusyError(["relay-1/release-1"])


async def test_a_transaction_that_does_not_end_is_named(environment: Environment) -> None:
    environment.epochs = BusyEpochs(environment.clock)
    await environment.start("relay", Colour.BLUE)

    with pytest.raises(FlipRefusedError, match=r"relay: a transaction of relay-1/release-1 does not end"):
        await flip(environment.epochs, ["relay"], Colour.BLUE, REASON)
