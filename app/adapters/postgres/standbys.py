"""How far the standbys of the database have come, asked of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.adapters.postgres.operator_session import DatabaseUnreachableError, open_session
from app.adapters.postgres.standby_reads import replayed_position


class Standbys:
    """The servers of a URL that are no primary.

    Args:
        url: postgresql://role@host:port,host:port/database.
        passwords: the role's, the present one first.
        application_name: names the sessions.
        statement_timeout: how long a server may take to answer.
    """

    def __init__(self, url: str, passwords: Sequence[str], application_name: str, statement_timeout: timedelta) -> None:
        self._servers = _servers(url)
        self._passwords, self._name, self._timeout = passwords, application_name, statement_timeout

    async def replayed(self) -> Mapping[str, int | None]:
        """Return the position in the primary's log that each standby shows; None of a server that does not answer.

        Where the URL names one server, it is the primary and there is nobody else to ask.
        """
        if len(self._servers) == 1:
            return {}
        found: dict[str, int | None] = {}
        for name, url in self._servers.items():
            try:
                async with open_session(url, self._passwords, self._name, self._timeout) as connection:
                    position = await replayed_position(connection)
            except (DatabaseUnreachableError, psycopg.Error):
                found[name] = None
                continue
            if position is not None:
                found[name] = position
        return found


def _servers(url: str) -> dict[str, str]:
    parts = conninfo_to_dict(url)
    hosts = str(parts.get("host", "")).split(",")
    ports = str(parts.get("port", "5432")).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return {
        f"{host}:{port}": make_conninfo(url, host=host, port=port, target_session_attrs="any")
        for host, port in zip(hosts, ports, strict=True)
    }
