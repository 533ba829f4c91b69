"""`make bench-worker`: jobs per second of our worker beside the library's own and beside what the engine itself can do.

All three work through jobs of one engine, one after the other, in the same run: first with nothing to do for a job, then
with a pause in place of an external call. Figures go by hand, with date and machine, into docs/benchmarks.md; what counts is
the ratio. It uses the engine of a released environment; what a slow worker has not done when its time is over stays there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import grpc
from pyzeebe import ZeebeWorker
from pyzeebe.errors import JobNotFoundError
from pyzeebe.grpc_internals.zeebe_adapter import ZeebeAdapter

from app.adapters.zeebe.channel import AWAY, open_channel
from app.adapters.zeebe.worker import ActivatedJob, CompleteJob, ServedJobType, Verdict, ZeebeJobWorker
from app.runtime.clock import SystemClock
from app.runtime.logging import configure
from tests.support.services import find_services

SLOTS = 32
_LOCK = timedelta(minutes=5)
_STARTERS = 32
_BATCH = 100
_PROCESS = """<?xml version="1.0" encoding="UTF-8"?>
<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:zeebe="http://camunda.org/schema/zeebe/1.0"
    id="d" targetNamespace="bench">
  <bpmn:process id="{name}" isExecutable="true">
    <bpmn:startEvent id="s"><bpmn:outgoing>a</bpmn:outgoing></bpmn:startEvent>
    <bpmn:serviceTask id="t">
      <bpmn:extensionElements><zeebe:taskDefinition type="{name}" /></bpmn:extensionElements>
      <bpmn:incoming>a</bpmn:incoming><bpmn:outgoing>b</bpmn:outgoing>
    </bpmn:serviceTask>
    <bpmn:endEvent id="e"><bpmn:incoming>b</bpmn:incoming></bpmn:endEvent>
    <bpmn:sequenceFlow id="a" sourceRef="s" targetRef="t" /><bpmn:sequenceFlow id="b" sourceRef="t" targetRef="e" />
  </bpmn:process>
</bpmn:definitions>
"""


@dataclass
class Tally:
    """Jobs the engine has back, and when the last one was wanted."""

    wanted: int
    completed: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self) -> None:
        """One more job is done."""
        self.completed += 1
        if self.completed >= self.wanted:
            self.done.set()

    def job(self, job_type: str, outcome: str) -> None:
        """See `JobObserver`."""
        self.count()

    def in_flight(self, job_type: str, jobs: int) -> None: ...

    def engine(self, *, up: bool) -> None:
        """See `JobObserver`."""


Contender = Callable[[grpc.aio.Channel, str, float, Tally], Awaitable[None]]


def written(folder: Path, name: str) -> str:
    """Write the process of a job type; return its file."""
    path = folder / f"{name}.bpmn"
    path.write_text(_PROCESS.format(name=name), encoding="utf-8")
    return str(path)


async def prepared(channel: grpc.aio.Channel, jobs: int) -> str:
    """Deploy a process of one task, start so many instances, and return its job type."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    adapter = ZeebeAdapter(channel, max_connection_retries=-1)
    with tempfile.TemporaryDirectory() as folder:
        await adapter.deploy_resource(written(Path(folder), name))
    left = jobs

    async def start() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            while True:
                try:
                    await adapter.create_process_instance(name, -1, {})
                except AWAY:
                    await asyncio.sleep(0.2)
                else:
                    break

    await asyncio.gather(*(start() for _ in range(_STARTERS)))
    return name


async def the_engine(channel: grpc.aio.Channel, name: str, pause: float, tally: Tally) -> None:
    """No worker at all: take jobs by the hundred and complete each at once."""
    adapter = ZeebeAdapter(channel, max_connection_retries=-1)

    async def complete(key: int) -> None:
        await asyncio.sleep(pause)
        with contextlib.suppress(JobNotFoundError):
            while True:
                try:
                    await adapter.complete_job(key, {})
                except AWAY:
                    await asyncio.sleep(0.05)
                else:
                    break
        tally.count()

    async with asyncio.TaskGroup() as group:
        while not tally.done.is_set():
            try:
                async for job in adapter.activate_jobs(
                    name, "bench", _LOCK // timedelta(milliseconds=1), _BATCH, [], 500
                ):
                    group.create_task(complete(job.key))
            except AWAY:
                await asyncio.sleep(0.05)


async def ours(channel: grpc.aio.Channel, name: str, pause: float, tally: Tally) -> None:
    """The platform's worker."""

    async def handle(_: ActivatedJob) -> Verdict:
        await asyncio.sleep(pause)
        return CompleteJob()

    worker = ZeebeJobWorker(
        channel,
        name="bench",
        job_types=[ServedJobType(name, handle, _LOCK, SLOTS)],
        concurrency=SLOTS,
        variables=[],
        request_timeout=timedelta(seconds=1),
        poll_interval=timedelta(seconds=0.1),
        drain_timeout=timedelta(seconds=5),
        clock=SystemClock(),
        observer=cast("Any", tally),
    )
    working = asyncio.create_task(worker.run())
    await tally.done.wait()
    worker.stop()
    await working


async def the_librarys(channel: grpc.aio.Channel, name: str, pause: float, tally: Tally) -> None:
    """pyzeebe's worker as it comes, with as many slots."""
    worker = ZeebeWorker(channel, name="bench")

    async def handle() -> None:
        await asyncio.sleep(pause)
        tally.count()

    worker.task(task_type=name, max_running_jobs=SLOTS, max_jobs_to_activate=SLOTS)(cast("Any", handle))
    working = asyncio.create_task(worker.work())
    await tally.done.wait()
    working.cancel()
    await asyncio.wait({working})


async def rate(channel: grpc.aio.Channel, contender: Contender, jobs: int, pause: float, limit: float) -> float:
    """Jobs per second until all are done, or over `limit` seconds where that takes longer."""
    name = await prepared(channel, jobs)
    tally = Tally(jobs)
    loop = asyncio.get_running_loop()
    started = loop.time()
    working = asyncio.ensure_future(contender(channel, name, pause, tally))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            await tally.done.wait()
    seconds, completed = loop.time() - started, tally.completed
    tally.done.set()
    await asyncio.wait({working}, timeout=10)
    working.cancel()
    return completed / seconds


async def bench(address: str, jobs: int, limit: float) -> None:
    """Measure and print the table."""
    contenders: dict[str, Contender] = {
        "engine alone": the_engine,
        "our worker": ours,
        "pyzeebe's worker": the_librarys,
    }
    print(f"{'work per job':<16}{'who':<20}{'jobs/s':>10}{'of the engine':>16}{'of pyzeebe':>14}")
    async with open_channel(address) as channel:
        await rate(channel, the_engine, jobs // 4, 0.0, limit)  # the engine's own start is nobody's fault
        for pause in (0.0, 0.05):
            rates = {who: await rate(channel, contender, jobs, pause, limit) for who, contender in contenders.items()}
            alone, library = rates["engine alone"], rates["pyzeebe's worker"]
            for who, measured in rates.items():
                shares = f"{measured / alone:>16.2f}{measured / library:>14.1f}"
                print(f"{f'{pause * 1000:.0f} ms':<16}{who:<20}{measured:>10.1f}{shares}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="make bench-worker", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="jobs of each measurement")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds after which a measurement ends")
    arguments = parser.parse_args()
    configure("ERROR", "bench", "bench")
    logging.getLogger("pyzeebe").setLevel(logging.ERROR)
    asyncio.run(bench(find_services().address("zeebe"), arguments.jobs, arguments.limit))


if __name__ == "__main__":
    main()
