"""Environments of the tests' own; each test leaves the machine as it found it.

With --begin-within, modules that the newest commit touches come first, then others in an order that each commit shuffles
anew; no module is begun after that time, and what was left out is named at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rotation import ROOT, in_turn, newest
from tests.support.scratch_environment import ScratchEnvironment

_BEGIN_WITHIN = "--begin-within"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the time after which no module is begun."""
    parser.addoption(_BEGIN_WITHIN, type=float, metavar="MINUTES", help="begin no module after so many minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Bring the modules in turn when there is not time for all of them."""
    if (minutes := config.getoption(_BEGIN_WITHIN, None)) is not None:
        config.pluginmanager.register(_Turns(minutes))


class _Turns:
    """Begins modules in turn for as long as there is time."""

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self._last = float("inf")
        self._begun: set[Path] = set()
        self._left: dict[Path, int] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        modules = {str(item.path.relative_to(ROOT)) for item in items}
        turns = {path: turn for turn, (path, _) in enumerate(in_turn(((path, "") for path in modules), newest()))}
        items.sort(key=lambda item: turns[str(item.path.relative_to(ROOT))])

    def pytest_runtestloop(self) -> None:
        self._last = time.monotonic() + self._minutes * 60

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Leave an item of a module that is not begun out; None lets pytest run it."""
        if item.path not in self._begun and time.monotonic() > self._last:
            self._left[item.path] = self._left.get(item.path, 0) + 1
            return True
        self._begun.add(item.path)
        return None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for path, tests in self._left.items():
            terminalreporter.write_line(
                f"not begun within {self._minutes:g} minutes: {path.relative_to(ROOT)} ({tests} tests)"
            )
        if self._left:
            terminalreporter.write_line("make topology runs all")


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[ScratchEnvironment]:
    """An environment of one host that is not up yet."""
    environment = ScratchEnvironment(tmp_path)
    environment.write()
    yield environment
    # The test may have broken the inventory on purpose, so it is written anew.
    whole = ScratchEnvironment(tmp_path)
    whole.write()
    if not any(whole.traces().values()):
        return
    down = whole.play("hosts_down")
    assert down.returncode == 0, down.stdout + down.stderr
