"""How every unit connects to PostgreSQL: its own role, a name that tells instance and release, and limits on every wait.

The limits stand on the role too; set here as well, they follow the unit's own settings and show in its configuration.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

Connection: TypeAlias = AsyncConnection[DictRow]
Pool: TypeAlias = AsyncConnectionPool[Connection]

PASSING_ERRORS = (
    psycopg.OperationalError,  # also statement and lock timeouts, shutdown, full disk, too many connections
    errors.IdleInTransactionSessionTimeout,  # this process stood still within a transaction; the driver calls it internal
    PoolTimeout,
)
"""The database cannot be asked now, and the same may succeed later: nothing is wrong with the statement or its data."""

_MILLISECOND = timedelta(milliseconds=1)
_CONNECT_TIMEOUT_S = 5
# The pool's own pauses between attempts double for minutes, and a database that is back would be missed as long. Given
# up so soon, a connection is tried for again by the next caller who needs one.
_RECONNECT_TIMEOUT_S = 0.5


def connection_parameters(
    url: str, password: str, *, application_name: str, statement_timeout: timedelta
) -> dict[str, Any]:
    """Arguments for `psycopg.AsyncConnection.connect`.

    Connections are in autocommit mode: a transaction begins where the code says so, in `transaction()` or a unit of
    work. Waiting for a lock may take half of a statement's time, so the answer still says which of the two it was; a
    transaction that sits idle for two statements' time is ended by the server.
    """
    limits = {
        "statement_timeout": statement_timeout,
        "lock_timeout": statement_timeout / 2,
        "idle_in_transaction_session_timeout": statement_timeout * 2,
    }
    return {
        "conninfo": url,
        "password": password,
        "application_name": application_name,
        "options": " ".join(f"-c {name}={limit // _MILLISECOND}" for name, limit in limits.items()),
        "connect_timeout": _CONNECT_TIMEOUT_S,
        # A host that vanished is noticed in seconds, not in the kernel's two hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "autocommit": True,
        "row_factory": dict_row,
    }


def make_pool(parameters: dict[str, Any], *, max_size: int, wait: timedelta) -> Pool:
    """Return a closed pool: open it in the process and event loop that use it, never before a fork.

    Args:
        parameters: from `connection_parameters`.
        max_size: most connections at once; one is kept open when idle.
        wait: how long a caller waits for a free connection before `psycopg_pool.PoolTimeout`.
    """
    keywords = dict(parameters)
    return AsyncConnectionPool(
        keywords.pop("conninfo"),
        kwargs=keywords,
        min_size=1,
        max_size=max_size,
        timeout=wait.total_seconds(),
        reconnect_timeout=_RECONNECT_TIMEOUT_S,
        open=False,
    )
