"""Workers of a colour: who may not work takes nothing, and what began under one epoch ends under no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from app.entrypoints.worker.job_loop import JobLoop
from app.entrypoints.worker.pass_loop import PassLoop
from app.messaging.colours import Colour
from app.messaging.retry import Unavailable
from app.runtime.clock import SystemClock
from app.runtime.shutdown import Shutdown
from tests.support.colours import ColouredProcess


class Notifier:
    feed_interval = 0.005

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.feeds = 0

    def watchdog(self) -> None:
        self.feeds += 1

    def status(self, text: str) -> None:
        self.statuses.append(text)

    def stopping(self) -> None: ...


@dataclass
class Jobs:
    """A job worker: whether it takes jobs, and how many run."""

    running: int = 0
    takes: list[bool] = field(default_factory=lambda: [True])
    is_engine_up: bool = True
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def rest(self) -> None:
        if self.takes[-1]:
            self.takes.append(False)

    def go_on(self) -> None:
        if not self.takes[-1]:
            self.takes.append(True)

    def is_stalled(self) -> bool:
        return False

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        assert not self._stop.is_set()
        await self._stop.wait()


def process(colour: Colour, look_interval: float = 0.01) -> ColouredProcess:
    return ColouredProcess(SystemClock(), colour, "worker@fulfillment", "worker-1", look_interval=look_interval)


@asynccontextmanager
async def serving(one: ColouredProcess, jobs: Jobs, notifier: Notifier) -> AsyncIterator[None]:
    shutdown = Shutdown()
    async with one.standing as standing:
        loop = JobLoop(cast("Any", jobs), standing, shutdown, cast("Any", notifier))
        running = asyncio.create_task(loop.run())
        yield
        shutdown.request()
        await running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (looks at what the worker does by itself)
            await asyncio.sleep(0.005)


async def test_a_job_worker_takes_jobs_only_while_its_colour_works() -> None:
    one, jobs, notifier = process(Colour.GREEN), Jobs(), Notifier()

    async with serving(one, jobs, notifier):
        await until(lambda: bool(notifier.statuses))
        assert jobs.takes == [True, False]
        assert notifier.statuses == ["standing by: processes without a colour work, epoch 0"]
        await one.flip(Colour.GREEN)
        await until(lambda: jobs.takes[-1])
        await one.flip(Colour.BLUE)
        await until(lambda: not jobs.takes[-1])

    assert notifier.feeds, "a worker that stands by is well"


async def test_the_next_epoch_is_taken_when_no_job_of_the_former_one_runs() -> None:
    one, jobs = process(Colour.BLUE), Jobs(running=1)
    await one.flip(Colour.BLUE)

    async with serving(one, jobs, Notifier()):
        await one.flip(Colour.GREEN)
        await one.flip(Colour.BLUE)
        await until(lambda: not jobs.takes[-1])
        await asyncio.sleep(0.05)
        assert one.held.epoch == 1, "the job that runs began under it"
        with pytest.raises(Unavailable, match="epoch 1 of worker@fulfillment is not held: it is in epoch 3"):
            one.write()
        jobs.running = 0
        await until(lambda: jobs.takes[-1])
        assert one.held.epoch == 3


@dataclass
class Pass:
    problem: str | None = None
    is_more_due: bool = False


async def test_no_pass_is_made_while_another_colour_works_and_a_refusal_is_noticed_at_once() -> None:
    one, notifier, shutdown = process(Colour.NONE, 60.0), Notifier(), Shutdown()
    passes = 0

    async def run_pass() -> Pass:
        nonlocal passes
        passes += 1
        await one.flip(Colour.GREEN)
        try:
            one.write()
        except Unavailable as error:
            return Pass(error.reason)
        return Pass()

    async with one.standing as standing:
        loop = PassLoop(
            run_pass,
            doing="working",
            standing=standing,
            poll_interval=timedelta(seconds=0.01),
            shutdown=shutdown,
            notifier=cast("Any", notifier),
            clock=SystemClock(),
        )
        running = asyncio.create_task(loop.run())
        await until(lambda: "standing by: green works, epoch 1" in notifier.statuses)
        assert loop.is_making_progress()
        shutdown.request()
        await running

    assert passes == 1
    assert notifier.statuses[0] == "waiting: epoch 0 of worker@fulfillment is not held: it is in epoch 1"
