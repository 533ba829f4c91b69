"""Looks at the table locks of one session from another one, many times a second."""

from __future__ import annotations

import threading
from typing import Any, Self

import psycopg

from app.adapters.postgres.named_blocks import NamedBlocks
from app.application.migration_rehearsal import Sample
from app.runtime.clock import Clock

INTERVAL_SECONDS = 0.02

_SQL = NamedBlocks("lock_watch")


class LockWatch:
    """A thread that looks while it is entered; `samples` has what it saw, in order.

    Args:
        parameters: for `psycopg.connect`; its session is another one than those that are watched.
        watched: the application name of the sessions that are watched.
        clock: monotonic time.
    """

    def __init__(self, parameters: dict[str, Any], watched: str, clock: Clock) -> None:
        self._parameters, self._watched, self._clock = parameters, watched, clock
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._look, name="lock-watch", daemon=True)
        self._begun = threading.Event()
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        """Look; returns after the first look."""
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more.

        Raises:
            psycopg.Error: it could not look to the end.
        """
        self._ended.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _look(self) -> None:
        try:
            with psycopg.connect(**self._parameters, autocommit=True) as connection:
                while not self._ended.is_set():
                    at = self._clock.monotonic()
                    rows = connection.execute(_SQL["locks"], {"watched": self._watched}).fetchall()
                    self.samples.append(Sample(at, frozenset((str(row[0]), str(row[1])) for row in rows)))
                    self._begun.set()
                    self._ended.wait(max(0.0, at + INTERVAL_SECONDS - self._clock.monotonic()))
        except psycopg.Error as error:
            self._error = error
        finally:
            self._begun.set()
