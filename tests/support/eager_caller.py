"""A process that calls one external system as often as its guard lets it, for three seconds.

Arguments: the system, the database's URL of the worker's role, the system's base URL and its token. The database's
password comes on standard input.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from datetime import timedelta

from prometheus_client import CollectorRegistry

from app.adapters.http.external_system import HttpExternalSystem, new_client
from app.adapters.postgres.external_guard import PostgresExternalCallGuard
from app.adapters.postgres.pool import connection_parameters, make_pool
from app.application.guarded_system import GuardedExternalSystem
from app.contracts.loader import load_external_systems
from app.runtime.clock import SystemClock
from app.runtime.metrics import ExternalGuardMetrics

SECONDS = 3.0
CALLERS = 8


async def main(system: str, database_url: str, base_url: str, token: str, password: str) -> None:
    """Call until the time is over."""
    policy = load_external_systems()[system]
    wait = timedelta(seconds=5)
    parameters = connection_parameters(database_url, password, application_name="tests", statement_timeout=wait)
    pool = make_pool(parameters, max_size=4, wait=wait)
    async with pool, new_client() as client:
        guarded = GuardedExternalSystem(
            system,
            HttpExternalSystem(
                client,
                system,
                policy,
                base_url=base_url,
                token=token,
                callback_url="http://127.0.0.1:9",
                timeout=lambda: wait,
            ),
            PostgresExternalCallGuard(pool, system, policy),
            retry=policy.retry,
            clock=SystemClock(),
            observer=ExternalGuardMetrics(CollectorRegistry()),
        )
        end = time.monotonic() + SECONDS

        async def call() -> None:
            while time.monotonic() < end:
                key = f"ci:tests:{uuid.uuid4()}:call:1"
                await guarded.call(key, {"orderId": str(uuid.uuid4()), "tenantId": "tests"})

        await asyncio.gather(*(call() for _ in range(CALLERS)))


if __name__ == "__main__":
    system, database_url, base_url, token = sys.argv[1:]
    asyncio.run(main(system, database_url, base_url, token, sys.stdin.readline().strip()))
