"""A relay or consumer process under test: what it says of itself, and a way to end it."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Mapping
from typing import Any

from tests.support.unit_process import UnitProcess


class EventUnit(UnitProcess):
    """A unit whose STATUS and log lines are looked at while it runs."""

    def __init__(
        self,
        unit: str,
        settings: Mapping[str, str],
        credentials: Mapping[str, str],
        watchdog_seconds: float | None = None,
    ) -> None:
        super().__init__(unit, settings, credentials, watchdog_seconds)
        self._seen: list[str] = []

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> str:
        """The last STATUS since READY."""
        self._collect()
        texts = [line for message in self._seen for line in message.splitlines() if line.startswith("STATUS=")]
        return texts[-1].removeprefix("STATUS=") if texts else ""

    @property
    def watchdog_feeds(self) -> int:
        """How often it fed the watchdog since READY."""
        self._collect()
        return sum(message == "WATCHDOG=1" for message in self._seen)

    def _collect(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._seen.append(self._messages.get_nowait())

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log, one object per line: nothing else may be written."""
        return [json.loads(line) for line in self.log.splitlines()]

    def stop(self) -> int:
        """Let it drain and return its exit status."""
        self.terminate()
        return self.wait(20)
