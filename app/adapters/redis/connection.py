"""How Redis is reached: with the component's own user, and with TLS where the URL says rediss."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


class TrustingConnection(SSLConnection):
    """Trusts the given roots and no public ones, and reads them at each connection: a rotation of the roots needs no restart."""

    def _connection_arguments(self) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return {**Connection._connection_arguments(self), "ssl": context}  # noqa: SLF001 - the one place where it is chosen


def connect(url: str, password: str, ca_file: str, timeout_s: float) -> Redis:
    """Return a client that opens connections when they are needed and tries nothing twice.

    Args:
        url: redis://user@host:port/database, or rediss:// for TLS.
        password: the user's.
        ca_file: the roots that a server's certificate may be of.
        timeout_s: most seconds that it waits for a connection and for an answer.
    """
    parts = urlsplit(url)
    tls: dict[str, Any] = {"connection_class": TrustingConnection, "ssl_ca_certs": ca_file}
    pool = ConnectionPool(
        host=parts.hostname or "localhost",
        port=parts.port or 6379,
        db=int(parts.path.lstrip("/") or 0),
        username=parts.username,
        password=password,
        protocol=2,  # RESP3 opens with HELLO, which the ACL user may not send
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),  # the database is the second try
        **(tls if parts.scheme == "rediss" else {}),
    )
    return Redis.from_pool(pool)


def text(answer: Any) -> str:
    """Return what the server answered as text, whatever its bytes are."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
