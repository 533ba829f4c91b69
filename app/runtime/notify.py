"""The service manager's notification protocol (sd_notify(3)): one datagram per message, sent from progress, never from a timer of its own."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Tells systemd that the unit is ready, alive or stopping; silent where no service manager listens.

    Args:
        address: value of NOTIFY_SOCKET, or None outside a Type=notify unit.
        watchdog_usec: value of WATCHDOG_USEC in microseconds, or None without a watchdog.
    """

    def __init__(self, address: str | None, watchdog_usec: int | None = None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._watchdog_usec = watchdog_usec

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """Build from NOTIFY_SOCKET and WATCHDOG_USEC as systemd sets them."""
        usec = environ.get("WATCHDOG_USEC")
        return cls(environ.get("NOTIFY_SOCKET"), int(usec) if usec else None)

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

    def _send(self, message: str, *, may_be_lost: bool = True) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # A service manager that is behind must not hold up the loop that works: the next message says it again.
            channel.setblocking(not may_be_lost)
            with suppress(BlockingIOError):
                channel.sendto(message.encode(), self._address)
