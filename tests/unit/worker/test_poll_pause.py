"""The library's worker sleeps while all its slots are taken; ours never does. Measured in a time that only pauses move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, cast

import grpc
import pytest
from pyzeebe import Job, ZeebeWorker
from pyzeebe.worker import worker as library

import app.adapters.zeebe.worker as module
from app.adapters.zeebe.worker import ActivatedJob, CompleteJob, ServedJobType, Verdict, ZeebeJobWorker
from tests.support import virtual_time

JOBS, SLOTS, SECONDS = 12, 2, 1.0
IDEAL = JOBS / SLOTS * SECONDS
"""What the work itself takes when no slot is ever left empty."""


class Engine:
    """Has jobs, gives as many as it is asked for, and holds a poll while it has none."""

    connected = True
    retrying_connection = False

    def __init__(self, *_: object, **__: object) -> None:
        self.waiting = list(range(JOBS))
        self.completed = 0
        self.all_completed = asyncio.Event()

    async def activate_jobs(
        self, *, max_jobs_to_activate: int, request_timeout: int, **_: object
    ) -> AsyncIterator[Job]:
        given, self.waiting = self.waiting[:max_jobs_to_activate], self.waiting[max_jobs_to_activate:]
        nothing: MappingProxyType[str, Any] = MappingProxyType({})
        for key in given:
            yield Job(key, "step", 1, "process", 1, 1, "Task", 1, nothing, "tests", 5, 0, nothing)
        if not given:
            await asyncio.sleep(request_timeout / 1000)

    async def complete_job(self, *_: object, **__: object) -> None:
        self.completed += 1
        if self.completed == JOBS:
            self.all_completed.set()


class Observed:
    """Metrics that nobody reads."""

    def job(self, job_type: str, outcome: str) -> None: ...

    def engine(self, *, up: bool) -> None: ...

    def in_flight(self, job_type: str, jobs: int) -> None: ...


class LoopClock:
    """The event loop's own time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def ours(monkeypatch: pytest.MonkeyPatch) -> float:
    engine = Engine()
    monkeypatch.setattr(module, "ZeebeAdapter", lambda *_, **__: engine)

    async def handle(_: ActivatedJob) -> Verdict:
        await asyncio.sleep(SECONDS)
        return CompleteJob()

    worker = ZeebeJobWorker(
        cast("grpc.aio.Channel", None),
        name="tests",
        job_types=[ServedJobType("step", handle, timedelta(minutes=5), SLOTS)],
        concurrency=SLOTS,
        variables=[],
        request_timeout=timedelta(seconds=2),
        poll_interval=timedelta(seconds=0.5),
        drain_timeout=timedelta(seconds=5),
        clock=cast("Any", LoopClock()),
        observer=cast("Any", Observed()),
    )
    return await measured(engine, worker.run, worker.stop)


async def the_librarys(monkeypatch: pytest.MonkeyPatch) -> float:
    engine = Engine()
    monkeypatch.setattr(library, "ZeebeAdapter", lambda *_, **__: engine)
    worker = ZeebeWorker(cast("grpc.aio.Channel", None))

    async def handle() -> None:
        await asyncio.sleep(SECONDS)

    worker.task(task_type="step", max_running_jobs=SLOTS, max_jobs_to_activate=SLOTS)(cast("Any", handle))
    return await measured(engine, worker.work, lambda: None)


async def measured(engine: Engine, run: Callable[[], Awaitable[None]], stop: Callable[[], None]) -> float:
    """Seconds from the start until the engine has every job back."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    working = asyncio.ensure_future(run())
    await engine.all_completed.wait()
    seconds = loop.time() - started
    stop()
    working.cancel()
    await asyncio.wait({working})
    return seconds


def test_no_slot_is_ever_left_empty_while_the_engine_has_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, _ = virtual_time.run(ours(monkeypatch))

    assert seconds == pytest.approx(IDEAL)


def test_the_librarys_own_worker_fails_this_very_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it ever passes, our worker has one reason less to exist."""
    seconds, _ = virtual_time.run(the_librarys(monkeypatch))

    assert seconds >= IDEAL + (JOBS / SLOTS - 1) * 3  # it sleeps five seconds for each second of work
