"""Lets the service manager see the workers' event loops and not just the process that started them.

gunicorn on its own says READY before any worker has loaded the application, and knows no watchdog. Here every worker
writes its process id into a pipe whenever its event loop comes round, first after its start-up checks; the arbiter says
READY when all of them have written, and feeds the watchdog only while all of them keep writing.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Collection

from app.runtime.clock import Clock
from app.runtime.notify import Notifier

_PID = struct.Struct("=i")
_READ_BYTES = 65536
_DEFAULT_INTERVAL_S = 10.0
_BEFORE_READY_S = 0.1
_REPORTS_PER_FEED = 3


class ProgressPipe:
    """Process ids from the workers to the arbiter. Make it before the workers are forked."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def report(self) -> None:
        """Tell that this process made progress; a full pipe means that the arbiter is stuck, which is its own matter."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, _PID.pack(os.getpid()))

    def collect(self) -> set[int]:
        """Return the processes that reported since the last call."""
        reported: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            # Writes of this size are atomic, so what is read is always a whole number of them.
            while chunk := os.read(self._reader, _READ_BYTES):
                reported.update(pid for (pid,) in _PID.iter_unpack(chunk))
        return reported


class Supervisor:
    """The arbiter's view of its workers, passed on to the service manager."""

    def __init__(self, notifier: Notifier, pipe: ProgressPipe, clock: Clock) -> None:
        self._notifier = notifier
        self._pipe = pipe
        self._clock = clock
        self._interval = notifier.feed_interval or _DEFAULT_INTERVAL_S
        self._progress: dict[int, float] = {}
        self._started: set[int] = set()
        self._fed_at = 0.0
        self.is_ready = False

    @property
    def pause(self) -> float:
        """Seconds the arbiter may wait before it looks again."""
        return min(1.0, self._interval / _REPORTS_PER_FEED) if self.is_ready else _BEFORE_READY_S

    @property
    def report_interval(self) -> float:
        """Seconds between two reports of a worker."""
        return self._interval / _REPORTS_PER_FEED

    def watch(self, workers: Collection[int], expected: int) -> None:
        """Look at the workers once; the arbiter calls this on every pass of its loop.

        A worker that was just forked counts as having made progress, so that replacing one does not starve the
        watchdog; after that it has to report like the others.
        """
        now = self._clock.monotonic()
        reported = self._pipe.collect()
        self._started = (self._started | reported) & set(workers)
        self._progress = {pid: now if pid in reported else self._progress.get(pid, now) for pid in workers}
        if not self.is_ready:
            if len(workers) == expected and self._started == set(workers):
                self.is_ready = True
                self._notifier.ready(f"{expected} workers serving")
            return
        if now - self._fed_at >= self._interval / 2 and all(
            now - seen <= self._interval for seen in self._progress.values()
        ):
            self._fed_at = now
            self._notifier.watchdog()

    def stopping(self) -> None:
        """Report that no new requests are taken and those in flight are finished."""
        self._notifier.stopping()
