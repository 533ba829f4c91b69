"""Environments of the tests' own; each test leaves the machine as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scratch_environment import ScratchEnvironment


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
