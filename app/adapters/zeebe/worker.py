"""Takes jobs from Zeebe and settles each: completed, failed, or ended with a BPMN error.

pyzeebe speaks to the gateway; its worker loop is replaced here, because it sleeps five seconds when all its slots are
taken, gives up after ten lost connections, keeps polling while it drains, and cannot tell whether it makes progress.

- A poll goes out as soon as a slot is free, for as many jobs as there are free slots: nothing waits in memory.
- The engine may be away for any time: polls go on with growing, jittered pauses.
- Over all types no more jobs are worked on at once than the process has turns; one turn is kept for each type, so that a
  type whose external system hangs never takes the last.
- A failed job is held here until its pause is over and failed then: engine 8.0 does not answer a FailJob that carries
  a pause until its own 15 s time-out. Until then the slot stays taken, which slows a failing step down by itself.
- A stop lets the polls that are out come back: the engine may be answering one with jobs just now, and jobs of a cut
  poll rest until their time-out. What they bring is handed back at once, running jobs finish, and what does not finish
  in time is handed back too, retries unchanged. So a stop takes up to the request time-out: keep that short.
- A worker that rests takes no jobs and hands back what a poll still brings; jobs that run go on, and none waits for its
  pause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias

import grpc
from pyzeebe import Job
from pyzeebe.errors import JobAlreadyDeactivatedError, JobNotFoundError, PyZeebeError
from pyzeebe.grpc_internals.zeebe_adapter import ZeebeAdapter

from app.adapters.zeebe.channel import AWAY, describe
from app.messaging.retry import Backoff
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

log = get_logger(__name__)

Outcome: TypeAlias = Literal["completed", "failed", "fallout", "refused", "handed_back", "postponed"]

_MILLISECOND = timedelta(milliseconds=1)
_SETTLE_TIMEOUT = 10.0
_HAND_BACK_TIMEOUT = 5.0
_LAST_POLLS_MARGIN = 1.0
_STALL_MARGIN = 30.0
# Kept free at the end of a job's time, so that settling it does not race with the engine's time-out.
_SETTLE_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class ActivatedJob:
    """A job as a handler sees it."""

    key: int
    type: str
    process_instance_key: int
    retries: int
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompleteJob:
    """The job is done."""

    outcome: Outcome = "completed"


@dataclass(frozen=True, slots=True)
class FailJob:
    """The job is not done. With no retries left the engine opens an incident and waits for a person."""

    retries: int
    error: str
    pause: timedelta = timedelta()
    outcome: Outcome = "failed"


@dataclass(frozen=True, slots=True)
class ThrowError:
    """The job ended in a way that the process models as a BPMN error."""

    error_code: str
    message: str
    outcome: Outcome = "refused"


Verdict: TypeAlias = CompleteJob | FailJob | ThrowError


@dataclass(frozen=True, slots=True)
class ServedJobType:
    """A job type and how it is served.

    Args:
        name: the job type.
        handle: does the work; an exception fails the job and takes one of its retries.
        timeout: how long the engine waits before it gives the job to somebody else.
        max_active: most jobs of this type taken at once, those that wait for their turn or their pause included.
    """

    name: str
    handle: Callable[[ActivatedJob], Awaitable[Verdict]]
    timeout: timedelta
    max_active: int


class JobObserver(Protocol):
    """Is told what became of jobs and whether the engine answers: metrics, never decisions."""

    def job(self, job_type: str, outcome: Outcome) -> None:
        """One job was settled."""
        ...

    def engine(self, *, up: bool) -> None:
        """The engine answered, or did not."""
        ...

    def in_flight(self, job_type: str, jobs: int) -> None:
        """So many jobs of a type are held."""
        ...


class Turns:
    """Jobs that may be worked on at once, over all types of a process.

    Args:
        limit: most jobs at once; at least one for each type.
        job_types: the types; each has one turn that no other takes.
    """

    def __init__(self, limit: int, job_types: Iterable[str]) -> None:
        self._limit = limit
        self._running = dict.fromkeys(job_types, 0)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {name: deque() for name in self._running}

    @contextlib.asynccontextmanager
    async def turn(self, job_type: str) -> AsyncIterator[None]:
        """Hold a turn, in order of arrival within the type."""
        if self._waiting[job_type] or not self._is_free_for(job_type):
            turn = asyncio.get_running_loop().create_future()
            self._waiting[job_type].append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(job_type)
                raise
        else:
            self._running[job_type] += 1
        try:
            yield
        finally:
            self._give_back(job_type)

    def _is_free_for(self, job_type: str) -> bool:
        kept = sum(1 for other, running in self._running.items() if other != job_type and not running)
        return sum(self._running.values()) + kept < self._limit

    def _give_back(self, job_type: str) -> None:
        self._running[job_type] -= 1
        for name in sorted(self._waiting, key=lambda name: self._running[name]):
            waiting = self._waiting[name]
            while waiting and (waiting[0].done() or self._is_free_for(name)):
                turn = waiting.popleft()
                if not turn.done():
                    self._running[name] += 1
                    turn.set_result(None)


class _Rest:
    """Whether a worker rests, and a way to wait for either."""

    def __init__(self) -> None:
        self.begun, self._over = asyncio.Event(), asyncio.Event()
        self._over.set()

    def begin(self) -> None:
        self.begun.set()
        self._over.clear()

    def end(self) -> None:
        self.begun.clear()
        self._over.set()

    async def over(self) -> None:
        await self._over.wait()


class ZeebeJobWorker:
    """Serves job types until it is stopped.

    Args:
        channel: from `open_channel`; closed by its owner.
        name: shown by the engine as who works on a job.
        job_types: what is served.
        left_behind: keys and retries of jobs that a former life of this process held when it died: they go back at once,
            for the engine itself would wait until their time is over and up to 30 s more.
        concurrency: most jobs worked on at once, over all types; at least one for each.
        variables: names of the variables fetched with a job.
        request_timeout: how long the engine may hold a poll while there are no jobs, and how long a stop may take for it.
        poll_interval: shortest time between two polls that bring nothing.
        drain_timeout: how long running jobs may take after a stop.
        clock: monotonic time.
        observer: metrics.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        name: str,
        job_types: Sequence[ServedJobType],
        left_behind: Sequence[tuple[int, int]] = (),
        concurrency: int,
        variables: Sequence[str],
        request_timeout: timedelta,
        poll_interval: timedelta,
        drain_timeout: timedelta,
        clock: Clock,
        observer: JobObserver,
    ) -> None:
        self._stop, self._rest = asyncio.Event(), _Rest()
        self._drain_timeout = drain_timeout.total_seconds()
        self._last_polls_timeout = request_timeout.total_seconds() + _LAST_POLLS_MARGIN
        adapter = ZeebeAdapter(channel, max_connection_retries=-1)
        self._adapter = adapter
        self._left_behind = left_behind
        turns = Turns(concurrency, [job_type.name for job_type in job_types])
        self._pollers = [
            _Poller(
                adapter=adapter,
                name=name,
                job_type=job_type,
                turns=turns,
                variables=list(variables),
                request_timeout=request_timeout,
                poll_interval=poll_interval,
                stop=self._stop,
                rest=self._rest,
                clock=clock,
                observer=observer,
            )
            for job_type in job_types
        ]

    @property
    def is_engine_up(self) -> bool:
        """Whether every poll succeeded last time."""
        return all(poller.is_engine_up for poller in self._pollers)

    @property
    def running(self) -> int:
        """Jobs being worked on."""
        return sum(len(poller.running) for poller in self._pollers)

    def is_stalled(self) -> bool:
        """Whether some poll or some job takes longer than any may: a poll that waits for jobs is no stall."""
        return any(poller.is_stalled() for poller in self._pollers)

    def rest(self) -> None:
        """Take no jobs until `go_on`; those that run end as ever."""
        self._rest.begin()

    def go_on(self) -> None:
        """Take jobs again; nothing changes for a worker that does not rest."""
        if self._rest.begun.is_set():
            for poller in self._pollers:
                poller.moved()
            self._rest.end()

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those that run are settled."""
        self._stop.set()
        self._rest.end()

    async def run(self) -> None:
        """Serve until `stop`, then drain."""
        async with asyncio.TaskGroup() as group:
            polls = [group.create_task(poller.poll(), name=f"poll {poller.name}") for poller in self._pollers]
            back = group.create_task(self._hand_back(), name="hand back")
            await self._stop.wait()
            back.cancel()
            log.info("draining", running=self.running)
            await asyncio.wait(polls, timeout=self._last_polls_timeout)
            for poll in polls:
                poll.cancel()
        await self._drain()

    async def _hand_back(self) -> None:
        """Hand back what a former life held, as soon as the engine answers."""
        backoff = Backoff(initial=0.25, maximum=5.0)
        for key, retries in self._left_behind:
            failures = 0
            while True:
                try:
                    async with asyncio.timeout(_SETTLE_TIMEOUT):
                        await self._adapter.fail_job(key, max(retries, 1), "handed back: its worker died", 0, {})
                except (JobNotFoundError, JobAlreadyDeactivatedError):
                    break  # settled before the death
                except AWAY:
                    failures += 1
                    await asyncio.sleep(backoff.delay(failures))
                    continue
                log.info("handed back what a former life held", job_key=key)
                break

    async def _drain(self) -> None:
        running = {task for poller in self._pollers for task in poller.running}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=self._drain_timeout)
        for task in late:
            task.cancel()  # each hands its job back
        if late:
            await asyncio.wait(late, timeout=_HAND_BACK_TIMEOUT)
            log.warning("handed back what did not end in time", jobs=len(late))


@dataclass
class _Poller:
    """One job type's polls and jobs."""

    adapter: ZeebeAdapter
    name: str
    job_type: ServedJobType
    turns: Turns
    variables: list[str]
    request_timeout: timedelta
    poll_interval: timedelta
    stop: asyncio.Event
    rest: _Rest
    clock: Clock
    observer: JobObserver
    running: set[asyncio.Task[None]] = field(default_factory=set)
    is_engine_up: bool = True

    def __post_init__(self) -> None:
        self._slot_freed = asyncio.Event()
        self._progress = self.clock.monotonic()
        self._failures = 0
        self._backoff = Backoff(initial=0.25, maximum=5.0)
        # The library lets a poll last twice as long as the engine is asked to hold it.
        longest = max(2 * self.request_timeout, self.job_type.timeout).total_seconds()
        self._stall_limit = longest + _STALL_MARGIN

    def moved(self) -> None:
        self._progress = self.clock.monotonic()

    def is_stalled(self) -> bool:
        if self.rest.begun.is_set() and not self.running:
            return False
        return self.clock.monotonic() - self._progress > self._stall_limit

    async def poll(self) -> None:
        """Poll until the stop; the jobs in `running` outlive it."""
        while not self.stop.is_set():
            await self.rest.over()
            self.moved()
            free = self.job_type.max_active - len(self.running)
            if free <= 0:
                self._slot_freed.clear()
                await self._slot_freed.wait()
            else:
                await self._pause(await self._poll_once(free))

    async def _poll_once(self, free: int) -> float:
        """Take up to `free` jobs; return the seconds until the next poll."""
        started = self.clock.monotonic()
        taken = 0
        try:
            async for job in self.adapter.activate_jobs(
                task_type=self.job_type.name,
                worker=self.name,
                timeout=self.job_type.timeout // _MILLISECOND,
                max_jobs_to_activate=free,
                variables_to_fetch=self.variables,
                request_timeout=self.request_timeout // _MILLISECOND,
            ):
                self._begin(job)
                taken += 1
        except (*AWAY, PyZeebeError) as error:
            self._failures += 1
            self._engine(up=False)
            log.warning("no jobs from the engine", job_type=self.job_type.name, error=describe(error))
            return self._backoff.delay(self._failures)
        self._failures = 0
        self._engine(up=True)
        if taken:
            return 0.0
        # An engine that answers at once that there is nothing must not be asked in a busy loop.
        return max(0.0, self.poll_interval.total_seconds() - (self.clock.monotonic() - started))

    def _engine(self, *, up: bool) -> None:
        self.is_engine_up = up
        self.observer.engine(up=up)

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._work(job), name=f"{job.type} {job.key}")
        self.running.add(task)
        self.observer.in_flight(self.job_type.name, len(self.running))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self.observer.in_flight(self.job_type.name, len(self.running))
        self._slot_freed.set()
        self.moved()
        if not task.cancelled() and task.exception() is not None:
            log.error("job left unsettled", job=task.get_name(), exc_info=task.exception())

    async def _work(self, job: Job) -> None:
        deadline = self.clock.monotonic() + self.job_type.timeout.total_seconds() - _SETTLE_MARGIN
        hand_back = FailJob(job.retries, "handed back: the worker stops", outcome="handed_back")
        try:
            is_late = self.stop.is_set() or self.rest.begun.is_set()
            verdict = hand_back if is_late else await self._judge(job, deadline)
            if isinstance(verdict, FailJob) and verdict.pause:
                await self._pause(min(verdict.pause.total_seconds(), deadline - self.clock.monotonic()))
        except asyncio.CancelledError:
            verdict = hand_back
        await self._settle(job, verdict, deadline)
        self.observer.job(job.type, verdict.outcome)

    async def _judge(self, job: Job, deadline: float) -> Verdict:
        activated = ActivatedJob(job.key, job.type, job.process_instance_key, job.retries, job.variables)
        try:
            async with asyncio.timeout(deadline - self.clock.monotonic()), self.turns.turn(self.job_type.name):
                return await self.job_type.handle(activated)
        except TimeoutError:
            log.error("job took longer than its time", job_type=job.type, job_key=job.key)  # noqa: TRY400
            return FailJob(job.retries, "took longer than its time", outcome="handed_back")
        except Exception as error:
            log.exception("job handler broke", job_type=job.type, job_key=job.key)
            return FailJob(job.retries - 1, f"{type(error).__name__}: {error}")

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the worker stops or rests."""
        if seconds > 0:
            waiting = [asyncio.create_task(self.stop.wait()), asyncio.create_task(self.rest.begun.wait())]
            try:
                await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()

    async def _settle(self, job: Job, verdict: Verdict, deadline: float) -> None:
        """Tell the engine, again while it does not answer; after the job's time it asks somebody else by itself."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(_SETTLE_TIMEOUT):
                    await self._send(job, verdict)
            except (JobNotFoundError, JobAlreadyDeactivatedError):
                log.info("job was settled already", job_type=job.type, job_key=job.key)
            except AWAY as error:
                failures += 1
                if self.clock.monotonic() > deadline:
                    log.warning("job not settled in time", job_type=job.type, job_key=job.key, error=describe(error))
                    return
                await asyncio.sleep(self._backoff.delay(failures))
                continue
            return

    async def _send(self, job: Job, verdict: Verdict) -> None:
        match verdict:
            case CompleteJob():
                await self.adapter.complete_job(job.key, {})
            case FailJob(retries=retries, error=error):
                await self.adapter.fail_job(job.key, max(retries, 0), error, 0, {})
            case ThrowError(error_code=code, message=message):
                await self.adapter.throw_error(job.key, message, {}, code)
