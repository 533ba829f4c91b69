"""The runtime socket of HAProxy: figures of its servers, and which of them a person or a release has taken out."""

from __future__ import annotations

import csv
import socket

PATH = "/run/haproxy/admin.sock"
PATIENCE_SECONDS = 10
# A server that was told to drain; whether it is up is another matter, and the status of one that is down does not say it.
FORCED_DRAIN = 8


def ask(command: str, path: str = PATH) -> str:
    """Put one command to the proxy and return what it says.

    Raises:
        OSError: nobody answers there.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer.decode()


def figures(path: str = PATH) -> list[dict[str, str]]:
    """Return the figures of each server by the names of `show stat`."""
    rows = csv.DictReader(ask("show stat", path).lstrip("# ").splitlines())
    return [row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")]


def drained(path: str = PATH) -> list[tuple[str, str]]:
    """Return backend and name of each server that was told to drain, also of those that are down."""
    _, header, *lines = ask("show servers state", path).strip().splitlines()
    rows = [dict(zip(header.lstrip("# ").split(), line.split(), strict=False)) for line in lines]
    return [(row["be_name"], row["srv_name"]) for row in rows if int(row["srv_admin_state"]) & FORCED_DRAIN]
