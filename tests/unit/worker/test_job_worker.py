"""The job worker against a gateway in memory: slots, outages, stops and stalls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, cast

import grpc
import pytest
from pyzeebe import Job
from pyzeebe.errors import JobNotFoundError, ZeebeGatewayUnavailableError

import app.adapters.zeebe.worker as module
from app.adapters.zeebe.worker import (
    ActivatedJob,
    CompleteJob,
    FailJob,
    ServedJobType,
    ThrowError,
    Turns,
    Verdict,
    ZeebeJobWorker,
)
from app.runtime.clock import SystemClock

Handle = Callable[[ActivatedJob], Awaitable[Verdict]]


def unavailable() -> ZeebeGatewayUnavailableError:
    metadata = grpc.aio.Metadata()
    return ZeebeGatewayUnavailableError(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata, details="connection refused")
    )


def job(key: int, retries: int = 5) -> Job:
    nothing: MappingProxyType[str, Any] = MappingProxyType({})
    return Job(key, "step", 1, "process", 1, 1, "Task", 1, nothing, "tests", retries, 0, nothing)


class Gateway:
    """Hands out the jobs it has, holds polls while there are none, and notes how each job was settled."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[Job] = asyncio.Queue()
        self.asked_for: list[int] = []
        self.settled: dict[int, object] = {}
        self.outage = 0
        self.lost_settlements = 0

    async def activate_jobs(
        self, *, max_jobs_to_activate: int, request_timeout: int, **_: object
    ) -> AsyncIterator[Job]:
        self.asked_for.append(max_jobs_to_activate)
        if self.outage:
            self.outage -= 1
            raise unavailable()
        try:
            async with asyncio.timeout(request_timeout / 1000):
                first = await self.jobs.get()
        except TimeoutError:
            return
        yield first
        for _number in range(max_jobs_to_activate - 1):
            if self.jobs.empty():
                return
            yield self.jobs.get_nowait()

    async def complete_job(self, key: int, variables: object) -> None:
        await self._settle(key, "completed")

    async def fail_job(self, key: int, retries: int, message: str, pause: int, variables: object) -> None:
        assert pause == 0
        await self._settle(key, retries)

    async def throw_error(self, key: int, message: str, variables: object, code: str) -> None:
        await self._settle(key, code)

    async def _settle(self, key: int, how: object) -> None:
        if self.lost_settlements:
            self.lost_settlements -= 1
            raise unavailable()
        if key in self.settled:
            raise JobNotFoundError(key)
        self.settled[key] = how


class Observed:
    """What metrics would show."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.engine_states: list[bool] = []

    def job(self, job_type: str, outcome: str) -> None:
        self.outcomes.append(outcome)

    def in_flight(self, job_type: str, jobs: int) -> None: ...

    def engine(self, *, up: bool) -> None:
        self.engine_states.append(up)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The gateway that the worker's library is replaced by."""
    gateway = Gateway()
    monkeypatch.setattr(module, "ZeebeAdapter", lambda *_, **__: gateway)
    return gateway


class Serving:
    """A worker that runs for the time of an `async with` block."""

    def __init__(
        self, handle: Handle, *, max_active: int = 2, concurrency: int | None = None, drain: float = 5.0
    ) -> None:
        self.observed = Observed()
        self.worker = ZeebeJobWorker(
            cast("grpc.aio.Channel", None),
            name="tests",
            job_types=[ServedJobType("step", handle, timedelta(seconds=30), max_active)],
            concurrency=concurrency or max_active,
            variables=["orderId"],
            request_timeout=timedelta(seconds=0.3),
            poll_interval=timedelta(seconds=0.01),
            drain_timeout=timedelta(seconds=drain),
            clock=SystemClock(),
            observer=self.observed,
        )

    async def __aenter__(self) -> Serving:  # noqa: PYI034
        self._task = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.stop()
        async with asyncio.timeout(10):
            await self._task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (looks at what the worker does by itself)
            await asyncio.sleep(0.005)


def always(verdict: Verdict) -> Handle:
    async def handle(_: ActivatedJob) -> Verdict:
        return verdict

    return handle


@pytest.mark.parametrize(
    ("verdict", "settled", "outcome"),
    [
        (CompleteJob(), "completed", "completed"),
        (FailJob(4, "down"), 4, "failed"),
        (FailJob(0, "fallout", outcome="fallout"), 0, "fallout"),
        (ThrowError("ORDER_REFUSED", "no stock"), "ORDER_REFUSED", "refused"),
    ],
)
async def test_a_verdict_is_told_to_the_engine(
    gateway: Gateway, verdict: Verdict, settled: object, outcome: str
) -> None:
    gateway.jobs.put_nowait(job(1))
    async with Serving(always(verdict)) as serving:
        await until(lambda: 1 in gateway.settled)

    assert gateway.settled == {1: settled}
    assert serving.observed.outcomes == [outcome]


async def test_no_more_jobs_are_taken_than_there_are_slots_and_a_free_slot_is_used_at_once(gateway: Gateway) -> None:
    for key in range(6):
        gateway.jobs.put_nowait(job(key))
    running = highest = 0

    async def handle(_: ActivatedJob) -> Verdict:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0.02)
        running -= 1
        return CompleteJob()

    started = asyncio.get_running_loop().time()
    async with Serving(handle):
        await until(lambda: len(gateway.settled) == 6)

    assert highest == 2
    assert asyncio.get_running_loop().time() - started < 2  # the library would sleep 5 s with its slots taken


async def test_an_engine_that_is_away_is_waited_for(gateway: Gateway) -> None:
    gateway.outage = 3
    gateway.jobs.put_nowait(job(1))

    async with Serving(always(CompleteJob())) as serving:
        await until(lambda: 1 in gateway.settled)
        await until(lambda: serving.worker.is_engine_up)

    assert serving.observed.engine_states[:3] == [False, False, False]


async def test_a_lost_settlement_is_repeated(gateway: Gateway) -> None:
    gateway.lost_settlements = 2
    gateway.jobs.put_nowait(job(1))

    async with Serving(always(CompleteJob())):
        await until(lambda: 1 in gateway.settled)

    assert gateway.settled == {1: "completed"}


async def test_a_job_that_somebody_else_settled_is_left_alone(gateway: Gateway) -> None:
    gateway.settled[1] = "by another worker"
    gateway.jobs.put_nowait(job(1))

    async with Serving(always(CompleteJob())) as serving:
        await until(lambda: bool(serving.observed.outcomes))

    assert gateway.settled == {1: "by another worker"}


async def test_a_broken_handler_costs_one_retry_and_not_the_worker(gateway: Gateway) -> None:
    async def handle(activated: ActivatedJob) -> Verdict:
        if activated.key == 1:
            raise ZeroDivisionError
        return CompleteJob()

    gateway.jobs.put_nowait(job(1))
    gateway.jobs.put_nowait(job(2))
    async with Serving(handle):
        await until(lambda: len(gateway.settled) == 2)

    assert gateway.settled == {1: 4, 2: "completed"}


async def test_a_stop_finishes_what_runs_and_begins_nothing(gateway: Gateway) -> None:
    """A poll that is out may still bring a job: it goes back at once, its retries unchanged."""
    release, begun = asyncio.Event(), list[int]()

    async def handle(activated: ActivatedJob) -> Verdict:
        begun.append(activated.key)
        await release.wait()
        return CompleteJob()

    gateway.jobs.put_nowait(job(1))
    async with Serving(handle) as serving:
        await until(lambda: begun == [1] and len(gateway.asked_for) > 1)
        serving.worker.stop()
        gateway.jobs.put_nowait(job(2))
        await until(lambda: gateway.settled == {2: 5})
        gateway.jobs.put_nowait(job(3))
        release.set()

    assert begun == [1]
    assert gateway.settled == {2: 5, 1: "completed"}
    assert gateway.jobs.qsize() == 1


@pytest.mark.parametrize("late", [1, 2, 3])
async def test_what_does_not_finish_in_time_is_handed_back_with_its_retries(gateway: Gateway, late: int) -> None:
    async def handle(_: ActivatedJob) -> Verdict:
        await asyncio.sleep(60)
        return CompleteJob()

    for key in range(late):
        gateway.jobs.put_nowait(job(key))
    async with Serving(handle, max_active=3, drain=0.05) as serving:
        await until(lambda: serving.worker.running == late)

    assert gateway.settled == dict.fromkeys(range(late), 5)
    assert serving.observed.outcomes == ["handed_back"] * late


async def test_a_pause_ends_with_the_worker(gateway: Gateway) -> None:
    gateway.jobs.put_nowait(job(1))
    async with Serving(always(FailJob(4, "down", timedelta(seconds=20)))) as serving:
        await until(lambda: serving.worker.running == 1)
        await asyncio.sleep(0.05)
        assert gateway.settled == {}

    assert gateway.settled == {1: 4}


async def test_waiting_for_jobs_is_no_stall(gateway: Gateway) -> None:
    async with Serving(always(CompleteJob())) as serving:
        await until(lambda: bool(gateway.asked_for))

        assert not serving.worker.is_stalled()


async def test_a_poll_that_never_comes_back_is_a_stall(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Serving(always(CompleteJob())) as serving:
        await until(lambda: bool(gateway.asked_for))
        now = SystemClock().monotonic()
        monkeypatch.setattr(SystemClock, "monotonic", lambda _: now + 61)

        assert serving.worker.is_stalled()
        monkeypatch.undo()


class Turntaking:
    """Who got a turn, who asked for one."""

    def __init__(self, limit: int, *job_types: str) -> None:
        self.turns = Turns(limit, job_types)
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, job: str) -> None:
        """A job, its type before the colon, asks for a turn."""
        self._ends[job] = asyncio.Event()
        self.tasks[job] = asyncio.create_task(self._hold(job))
        await self.settled()

    async def end(self, job: str) -> None:
        """A job that has its turn ends."""
        self._ends[job].set()
        await self.settled()

    @staticmethod
    async def settled() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _hold(self, job: str) -> None:
        async with self.turns.turn(job.partition(":")[0]):
            self.begun.append(job)
            await self._ends[job].wait()


async def test_a_type_that_hangs_never_takes_the_last_turn_of_another() -> None:
    taking = Turntaking(3, "a", "b")
    for number in range(4):
        await taking.ask(f"a:{number}")

    assert taking.begun == ["a:0", "a:1"]  # the third turn is b's
    await taking.ask("b:0")
    assert taking.begun[-1] == "b:0"

    await taking.end("a:0")
    assert taking.begun[-1] == "a:2"


async def test_with_every_type_at_work_all_turns_are_used_in_order_of_arrival() -> None:
    taking = Turntaking(3, "a", "b")
    for job in ("a:0", "b:0", "b:1", "b:2", "b:3"):
        await taking.ask(job)
    assert taking.begun == ["a:0", "b:0", "b:1"]

    await taking.end("b:0")
    await taking.end("b:1")

    assert taking.begun[-2:] == ["b:2", "b:3"]


async def test_a_turn_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    taking = Turntaking(1, "a")
    for number in range(3):
        await taking.ask(f"a:{number}")
    taking.tasks["a:1"].cancel()
    await taking.settled()

    await taking.end("a:0")
    assert taking.begun == ["a:0", "a:2"]

    await taking.end("a:2")
    await taking.ask("a:3")
    assert taking.begun[-1] == "a:3"


async def test_no_more_jobs_are_worked_on_than_there_are_turns(gateway: Gateway) -> None:
    for key in range(6):
        gateway.jobs.put_nowait(job(key))
    running = highest = 0

    async def handle(_: ActivatedJob) -> Verdict:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1
        return CompleteJob()

    async with Serving(handle, max_active=6, concurrency=2):
        await until(lambda: len(gateway.settled) == 6)

    assert highest == 2


async def test_a_worker_that_rests_takes_no_job_and_goes_on_when_it_is_told(gateway: Gateway) -> None:
    async with Serving(always(CompleteJob())) as serving:
        await until(lambda: bool(gateway.asked_for))
        serving.worker.rest()
        # Brought by the poll that was out already.
        gateway.jobs.put_nowait(job(1))
        await until(lambda: 1 in gateway.settled)
        polls = len(gateway.asked_for)
        gateway.jobs.put_nowait(job(2))
        await asyncio.sleep(0.1)
        assert (len(gateway.asked_for), serving.worker.is_stalled()) == (polls, False)

        serving.worker.go_on()
        await until(lambda: 2 in gateway.settled)

    assert gateway.settled == {1: 5, 2: "completed"}
    assert serving.observed.outcomes == ["handed_back", "completed"]


async def test_a_rest_does_not_wait_for_the_pause_of_a_failed_job(gateway: Gateway) -> None:
    gateway.jobs.put_nowait(job(1))
    async with Serving(always(FailJob(4, "down", timedelta(seconds=20)))) as serving:
        await until(lambda: serving.worker.running == 1)
        await asyncio.sleep(0.05)
        assert gateway.settled == {}
        serving.worker.rest()
        await until(lambda: serving.worker.running == 0)

    assert gateway.settled == {1: 4}


async def test_a_worker_that_rests_stops_at_once(gateway: Gateway) -> None:
    async with Serving(always(CompleteJob())) as serving:
        serving.worker.rest()
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - started < 1
    assert gateway.settled == {}
