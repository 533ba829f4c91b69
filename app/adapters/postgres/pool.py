"""How every unit connects to PostgreSQL: its own role, a name that tells instance and release, and limits on every wait.

The limits stand on the role too; set here as well, they follow the unit's own settings and show in its configuration.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Self, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.rows import DictRow, Row, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from app.settings.shared import DatabaseSettings

Connection: TypeAlias = AsyncConnection[DictRow]
Pool: TypeAlias = AsyncConnectionPool[Connection]

PASSING_ERRORS = (
    psycopg.OperationalError,  # also statement and lock timeouts, shutdown, full disk, an epoch that is over
    errors.IdleInTransactionSessionTimeout,  # this process stood still within a transaction; the driver calls it internal
    PoolTimeout,
)
"""The database cannot be asked now, and the same may succeed later: nothing is wrong with the statement or its data."""

EPOCH_OVER = "55C01"
"""What `cpq.hold_epoch()` answers to a session whose epoch is not that of its role."""

_REFUSED = "password authentication failed"
"""The server has no code for it that reaches the client; its messages are in English on every server of ours."""

_MILLISECOND = timedelta(milliseconds=1)
# For each host of the URL: one that lost its power does not answer at all, and the next is tried after that.
_CONNECT_TIMEOUT_S = 3
# The pool's own pauses between attempts double for minutes, and a database that is back would be missed as long. Given
# up so soon, a connection is tried for again by the next caller who needs one.
_RECONNECT_TIMEOUT_S = 0.5
# No role is ever in this epoch.
_NONE = -1


def first_line(error: Exception) -> str:
    """What an error says, in a line: what follows repeats the connection string or the statement."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


async def _refuse_dead(connection: Connection) -> None:
    """Refuse a pooled connection whose server has ended it or cannot be reached, without a round trip.

    An idle connection has nothing to say: what can be read on it is its end, such as that of a former primary.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        # Still open it would be taken back and offered to the next caller.
        await connection.close()
        raise psycopg.OperationalError("the server has ended the connection")


def _refuse_dead_and_tell(held: Callable[[], int | None]) -> Callable[[Connection], Awaitable[None]]:
    """Let sessions say which epoch the process holds; a round trip only where that has changed since the session's last use."""
    told: WeakKeyDictionary[Connection, int | None] = WeakKeyDictionary()

    async def check(connection: Connection) -> None:
        await _refuse_dead(connection)
        epoch = held()
        if told.get(connection, 0) != epoch:
            await connection.execute(
                "SELECT set_config('cpq.epoch', %s, false)", [str(_NONE if epoch is None else epoch)]
            )
            told[connection] = epoch

    return check


class RoleConnection(AsyncConnection[Row]):
    """A connection of the unit's role, which has one password, and for a moment of each rotation not yet the one we were given."""

    @classmethod
    async def connect(cls, conninfo: str = "", *, former_password: str | None = None, **keywords: Any) -> Self:  # type: ignore[override]
        """Try the former password where the present one is refused."""
        try:
            return await super().connect(conninfo, **keywords)
        except psycopg.OperationalError as error:
            if former_password is None or _REFUSED not in str(error):
                raise
        return await super().connect(conninfo, **{**keywords, "password": former_password})


def connection_parameters(
    url: str,
    password: str,
    former_password: str | None = None,
    *,
    application_name: str,
    statement_timeout: timedelta,
) -> dict[str, Any]:
    """Arguments for `RoleConnection.connect`.

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
        "former_password": former_password,
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


def unit_parameters(settings: DatabaseSettings, release_id: str, role: str | None = None) -> dict[str, Any]:
    """Arguments for connections of a unit, whose sessions are named by instance and release.

    Args:
        settings: the unit's own.
        release_id: the release that it runs.
        role: whose epoch fences what the sessions write, such as `consumer@notification`; None for a unit without colours.
    """
    parameters = connection_parameters(
        settings.db_url,
        *settings.db_password.accepted,
        application_name=f"{settings.app_instance_id}/{release_id}",
        statement_timeout=settings.db_statement_timeout,
    )
    if role is not None:
        parameters["options"] += f" -c cpq.role={role}"
    return parameters


def make_pool(
    parameters: dict[str, Any],
    *,
    max_size: int,
    wait: timedelta,
    lifetime: timedelta = timedelta(hours=1),
    held: Callable[[], int | None] | None = None,
) -> Pool:
    """Return a closed pool: open it in the process and event loop that use it, never before a fork.

    Args:
        parameters: from `connection_parameters`.
        max_size: most connections at once; one is kept open when idle.
        wait: how long a caller waits for a free connection before `psycopg_pool.PoolTimeout`.
        lifetime: after about that time a connection is replaced by a new one.
        held: the epoch that the process holds, None for none; every connection says so when it is handed out.
    """
    keywords = dict(parameters)
    return AsyncConnectionPool(
        keywords.pop("conninfo"),
        connection_class=RoleConnection[DictRow],
        kwargs=keywords,
        min_size=1,
        max_size=max_size,
        timeout=wait.total_seconds(),
        max_lifetime=lifetime.total_seconds(),
        reconnect_timeout=_RECONNECT_TIMEOUT_S,
        check=_refuse_dead if held is None else _refuse_dead_and_tell(held),
        open=False,
    )
