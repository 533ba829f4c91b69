from __future__ import annotations

import pytest

from tests.support.released_host import ReleasedHost, find_host


@pytest.fixture(scope="session")
def host() -> ReleasedHost:
    """The host of the environment for tests, with the platform running on it."""
    return find_host()
