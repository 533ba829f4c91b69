from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.messaging.colours import LOOK_INTERVAL, Colour
from app.messaging.retry import Unavailable
from tests.support.colours import ColouredProcess


class HandClock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_a_process_without_a_colour_works_while_its_role_has_none(clock: HandClock) -> None:
    process = ColouredProcess(clock)

    assert process.held.epoch == 0, (
        "also before it has looked: a database that is away at a start is no reason to differ"
    )
    async with process.standing as standing:
        assert await standing.may_work()
        process.write()
        await process.flip(Colour.BLUE)
        with pytest.raises(Unavailable, match="epoch 0 of relay is not held: it is in epoch 1"):
            process.write()
        standing.doubt()
        assert not await standing.may_work()
    assert await process.rows.processes() == []


async def test_a_colour_stands_by_until_it_is_its_turn_and_again_after(clock: HandClock) -> None:
    green = ColouredProcess(clock, Colour.GREEN)
    async with green.standing as standing:
        assert not await standing.may_work()
        assert standing.status == "standing by: processes without a colour work, epoch 0"
        with pytest.raises(Unavailable):
            green.write()

        await green.flip(Colour.GREEN)
        clock.seconds += LOOK_INTERVAL
        assert await standing.may_work()
        assert (green.held.epoch, green.shown.works, green.shown.epoch) == (1, True, 1)
        green.write()

        await green.flip(Colour.BLUE)
        clock.seconds += LOOK_INTERVAL
        assert not await standing.may_work()
        assert standing.status == "standing by: blue works, epoch 2"
        assert (green.held.epoch, green.shown.works) == (None, False)


async def test_an_epoch_is_asked_for_every_few_seconds_and_at_once_in_doubt(clock: HandClock) -> None:
    process = ColouredProcess(clock)
    async with process.standing as standing:
        await process.flip(Colour.GREEN)
        clock.seconds += LOOK_INTERVAL / 2
        assert await standing.may_work()
        assert standing.look_in == LOOK_INTERVAL / 2

        standing.doubt()
        assert standing.look_in == 0
        assert not await standing.may_work()


async def test_an_epoch_is_taken_only_between_two_units_of_work(clock: HandClock) -> None:
    """Away and back while a unit of work was under way: what it began under the first epoch ends under no other."""
    blue = ColouredProcess(clock, Colour.BLUE)
    await blue.flip(Colour.BLUE)
    async with blue.standing as standing:
        assert blue.held.epoch == 1
        await blue.flip(Colour.GREEN)
        await blue.flip(Colour.BLUE)
        standing.doubt()
        await standing.look()

        assert standing.is_over
        with pytest.raises(Unavailable):
            blue.write()
        assert standing.take()
        assert (blue.held.epoch, standing.is_over) == (3, False)
        blue.write()


async def test_while_nobody_answers_the_last_answer_counts(clock: HandClock) -> None:
    process = ColouredProcess(clock)
    async with process.standing as standing:
        process.rows.is_away = True
        standing.doubt()
        assert await standing.may_work()
        assert standing.look_in == LOOK_INTERVAL, "a database that is away is not asked in a busy loop"


async def test_a_start_needs_an_answer(clock: HandClock) -> None:
    process = ColouredProcess(clock)
    process.rows.is_away = True
    with pytest.raises(Unavailable):
        async with process.standing:
            pass


async def test_what_a_process_holds_is_shown_as_soon_as_it_changes(clock: HandClock) -> None:
    process = ColouredProcess(clock)
    async with process.standing as standing:
        await process.flip(Colour.BLUE)
        standing.doubt()
        await standing.may_work()
        await standing.may_work()
        assert [seen.held_epoch for seen in await process.rows.processes()] == [None]
