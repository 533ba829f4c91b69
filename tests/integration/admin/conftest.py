from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.worker.conftest import simulator
from tests.support.event_fixtures import kafka, own_outbox, owner_connection, tenant
from tests.support.operator import Operator
from tests.support.services import Services

__all__ = ["kafka", "own_outbox", "owner_connection", "simulator", "tenant"]


@pytest.fixture
def operator(services: Services, schema: None, tmp_path: Path) -> Operator:  # noqa: ARG001 (every command is audited)
    """A person who runs commands."""
    return Operator(services, tmp_path)
