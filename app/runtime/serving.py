"""An ASGI application as a unit's whole work: one process, READY when it listens, drained before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown

_IDLE_FEED_INTERVAL = 1.0
_DRAIN_SECONDS = 10


class _Server(uvicorn.Server):
    """uvicorn that tells when it listens, and leaves the signals to this process's main loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything is promised.

    Raises:
        OSError: the address is not ours or the port is taken.
    """
    return socket.create_server((host, port), backlog=128)


async def serve_until_stopped(
    app: Any, listener: socket.socket, shutdown: Shutdown, notifier: Notifier, on_ready: Callable[[], None]
) -> None:
    """Serve an ASGI application, feed the watchdog from the loop that serves, and finish what was begun.

    Args:
        app: the application.
        listener: from `listen`.
        shutdown: the request to stop.
        notifier: the service manager.
        on_ready: called when the first request can be taken, before READY is sent.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_DRAIN_SECONDS
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    on_ready()
    notifier.ready("serving")
    # A blocked loop stops feeding, an idle one does not.
    while not serving.done() and not await shutdown.sleep(notifier.feed_interval or _IDLE_FEED_INTERVAL):
        notifier.watchdog()
    notifier.stopping()
    server.should_exit = True
    await serving
