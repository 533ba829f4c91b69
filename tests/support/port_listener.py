"""Listens on many ports and answers, in place of services that a test does not need.

A program that runs on hosts with nothing but their Python, as a unit of Type=notify: `python3 FILE SETTINGS`, where SETTINGS is JSON,
ports by protocol. A connection is taken and closed, a datagram is sent back; ports that somebody else has are left to them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import sys

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
BACKLOG = 256


def listener(protocol: str, port: int) -> socket.socket | None:
    """Open a port; nothing where somebody has it."""
    one = socket.socket(socket.AF_INET, KINDS[protocol])
    one.settimeout(0)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind(("0.0.0.0", port))
        if protocol == "tcp":
            one.listen(BACKLOG)
    except OSError as error:
        one.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return one


def answer(one: socket.socket, protocol: str) -> None:
    """Take a connection, or send a datagram back."""
    # A caller may be gone again.
    with contextlib.suppress(OSError):
        if protocol == "tcp":
            one.accept()[0].close()
        else:
            data, caller = one.recvfrom(16)
            one.sendto(data, caller)


def main() -> None:
    """Open everything, say so, and answer until the end."""
    ready = selectors.DefaultSelector()
    for protocol, ports in json.loads(sys.argv[1]).items():
        for port in ports:
            if one := listener(protocol, port):
                ready.register(one, selectors.EVENT_READ, protocol)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    while True:
        for key, _ in ready.select():
            if isinstance(key.fileobj, socket.socket):
                answer(key.fileobj, key.data)


if __name__ == "__main__":
    main()
