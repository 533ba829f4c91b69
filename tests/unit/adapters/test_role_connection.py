"""A role has one password: while it is rotated, the former one is tried where the present one is refused, and only there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.adapters.postgres.pool import RoleConnection, connection_parameters

REFUSED = 'connection failed: FATAL:  password authentication failed for user "cpq_api"'
AWAY = "connection failed: Connection refused"


class Server:
    """Answers connections as PostgreSQL does; `connected` holds the passwords that came."""

    def __init__(self, password: str, problem: str = "") -> None:
        self.password, self.problem, self.connected = password, problem, list[str]()

    async def connect(self, conninfo: str, **keywords: Any) -> str:
        assert "former_password" not in keywords
        self.connected.append(keywords["password"])
        if self.problem or keywords["password"] != self.password:
            raise psycopg.OperationalError(self.problem or REFUSED)
        return "a session"


def parameters(*passwords: str) -> dict[str, Any]:
    url = "postgresql://cpq_api@db/cpq"
    return connection_parameters(url, *passwords, application_name="tests", statement_timeout=timedelta(seconds=1))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Server:
    found = Server(*request.param)
    monkeypatch.setattr(psycopg.AsyncConnection, "connect", found.connect)
    return found


@pytest.mark.parametrize(("server", "tried"), [(("new",), ["new"]), (("old",), ["new", "old"])], indirect=["server"])
async def test_whichever_the_server_expects_is_found(server: Server, tried: list[str]) -> None:
    assert await RoleConnection.connect(**parameters("new", "old")) == "a session"  # type: ignore[comparison-overlap]
    assert server.connected == tried


@pytest.mark.parametrize(
    ("server", "passwords", "tried"),
    [
        (("other",), ("new", "old"), ["new", "old"]),
        (("old",), ("new",), ["new"]),
        # Nobody is told a second password because the network is down.
        (("old", AWAY), ("new", "old"), ["new"]),
    ],
    indirect=["server"],
)
async def test_nothing_else_is_tried(server: Server, passwords: tuple[str, ...], tried: list[str]) -> None:
    with pytest.raises(psycopg.OperationalError):
        await RoleConnection.connect(**parameters(*passwords))
    assert server.connected == tried
