"""The rehearsal that the tests of this folder run against: it is up and released."""

from __future__ import annotations

import os

import pytest

from tests.support.rehearsal import Rehearsal


@pytest.fixture(scope="session")
def rehearsal() -> Rehearsal:
    """The environment of CPQ_REHEARSAL_ENV, staging unless given; a missing one fails, it is not skipped."""
    found = Rehearsal(os.environ.get("CPQ_REHEARSAL_ENV", "staging"))
    assert found.in_namespace(["true"], check=False).returncode == 0, f"make up ENV={found.environment} first"
    return found
