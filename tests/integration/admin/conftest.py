from __future__ import annotations

from tests.integration.worker.conftest import simulator
from tests.support.event_fixtures import kafka, own_outbox, owner_connection, tenant

__all__ = ["kafka", "own_outbox", "owner_connection", "simulator", "tenant"]
