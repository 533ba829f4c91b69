"""The runtime socket of HAProxy: figures of its servers, and which of them a person or a release has taken out."""

from __future__ import annotations

import csv
import socket

PATH = "/run/haproxy/admin.sock"
PATIENCE_SECONDS = 10
# Which colour of the API serves: one entry, in memory and in this file, which the proxy reads when it starts (roles/edge).
COLOURS = "/etc/haproxy/colours.map"
SERVING = "api"
COLOUR_OF_NO_ENTRY = "blue"
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


def colours(file: str = COLOURS, path: str = PATH) -> dict[str, str]:
    """Return what the proxy has in memory of its file of colours; empty where nobody has chosen one, or none are known.

    Raises:
        OSError: nobody answers there.
    """
    # An entry begins with the address that it has in memory.
    entries = [line.split()[1:] for line in ask(f"show map {file}", path).splitlines() if line.startswith("0x")]
    return dict(entries)


def serving(path: str = PATH, file: str = COLOURS) -> str:
    """Return the colour whose servers get the API's requests; empty where the proxy knows no colours.

    Raises:
        OSError: nobody answers there.
    """
    parts = {row["pxname"] for row in figures(path)}
    return colours(file, path).get(SERVING, COLOUR_OF_NO_ENTRY) if f"api-{COLOUR_OF_NO_ENTRY}" in parts else ""


def choose(colour: str, file: str = COLOURS, path: str = PATH) -> str:
    """Have every new request of the API sent to a colour; return what the proxy says against it.

    Raises:
        OSError: nobody answers there.
    """
    act = "set" if SERVING in colours(file, path) else "add"
    return ask(f"{act} map {file} {SERVING} {colour}", path).strip()


def drained(path: str = PATH) -> list[tuple[str, str]]:
    """Return backend and name of each server that was told to drain, also of those that are down."""
    _, header, *lines = ask("show servers state", path).strip().splitlines()
    rows = [dict(zip(header.lstrip("# ").split(), line.split(), strict=False)) for line in lines]
    return [(row["be_name"], row["srv_name"]) for row in rows if int(row["srv_admin_state"]) & FORCED_DRAIN]
