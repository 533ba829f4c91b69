"""The service manager's notification protocol (sd_notify(3)): one datagram per message, sent from progress, never from a timer of its own.

It also keeps what must outlive the process: a listening socket that it holds over a restart refuses nobody meanwhile.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Tells systemd that the unit is ready, alive or stopping; silent where no service manager listens.

    Args:
        address: value of NOTIFY_SOCKET, or None outside a Type=notify unit.
        watchdog_usec: value of WATCHDOG_USEC in microseconds, or None without a watchdog.
        kept: listening sockets of the process before this one, by name.
    """

    def __init__(
        self, address: str | None, watchdog_usec: int | None = None, kept: Mapping[str, socket.socket] | None = None
    ) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._watchdog_usec = watchdog_usec
        self._kept = dict(kept or {})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """Build from NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS as systemd sets them."""
        usec = environ.get("WATCHDOG_USEC")
        names = environ.get("LISTEN_FDNAMES", "").split(":") if environ.get("LISTEN_PID") == str(os.getpid()) else []
        kept = {name: socket.socket(fileno=_FIRST_DESCRIPTOR + number) for number, name in enumerate(names) if name}
        return cls(environ.get("NOTIFY_SOCKET"), int(usec) if usec else None, kept)

    @property
    def feed_interval(self) -> float | None:
        """Seconds between two watchdog feeds: a third of WatchdogSec, or None without a watchdog."""
        return None if self._watchdog_usec is None else self._watchdog_usec / 3_000_000

    def ready(self, status: str = "") -> None:
        """Report that every start-up check has passed; waits until the service manager has room for it."""
        self._send(f"READY=1\nSTATUS={status}", may_be_lost=False)

    def watchdog(self) -> None:
        """Report progress: call it from the loop that does the work."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def stopping(self, status: str = "draining") -> None:
        """Report that the unit takes no new work and finishes what it has."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def listener(self, name: str, host: str, port: int, *, backlog: int) -> socket.socket:
        """Return a socket that listens there: the one the service manager kept, or a new one that it keeps from now on.

        The unit's FileDescriptorStoreMax= has room for each name; without a service manager it is a socket like any other.

        Raises:
            OSError: the address is not ours or the port is taken.
        """
        kept = self._kept.pop(name, None)
        if kept is not None:
            if kept.getsockname()[:2] == (host, port):
                return kept
            # The unit's settings say another address than the process before it had.
            kept.close()
            self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", may_be_lost=False)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=backlog)
        self._send(f"FDSTORE=1\nFDNAME={name}", may_be_lost=False, descriptor=made.fileno())
        return made

    def _send(self, message: str, *, may_be_lost: bool = True, descriptor: int | None = None) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # A service manager that is behind must not hold up the loop that works: the next message says it again.
            channel.setblocking(not may_be_lost)
            rights = (
                [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            )
            with suppress(BlockingIOError):
                channel.sendmsg([message.encode()], rights, 0, self._address)
