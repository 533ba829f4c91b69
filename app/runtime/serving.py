"""An ASGI application as a unit's whole work: one process, READY when it listens, drained before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown

_IDLE_FEED_INTERVAL = 1.0
_DRAIN_SECONDS = 10
_ACCEPTED_SECONDS = 0.2
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate with its chain, and its key."""

    certificate: Path
    key: Path


def _config(app: Any, tls: TlsFiles | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        server_header=False,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )


class DrainingServer(uvicorn.Server):
    """uvicorn that closes no connection whose request is on its way when it is told to stop."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        # A connection that was accepted a moment ago has said nothing yet, and looks like an idle one.
        await asyncio.sleep(_ACCEPTED_SECONDS)
        await super().shutdown(sockets)


class _Server(DrainingServer):
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


def listen(host: str, port: int, notifier: Notifier | None = None) -> socket.socket:
    """Take the address before anything is promised, and have the service manager keep it over restarts where one is given.

    Raises:
        OSError: the address is not ours or the port is taken.
    """
    if notifier is not None:
        return notifier.listener("http", host, port, backlog=_BACKLOG)
    return socket.create_server((host, port), backlog=_BACKLOG)


@contextlib.asynccontextmanager
async def serving(app: Any, listener: socket.socket, *, tls: TlsFiles | None = None) -> AsyncIterator[None]:
    """Serve a further application, for as long as the context is open; it is drained at the end."""
    server = _Server(_config(app, tls))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.listening.wait()
        yield
    finally:
        server.should_exit = True
        await task


async def serve_until_stopped(
    app: Any,
    listener: socket.socket,
    shutdown: Shutdown,
    notifier: Notifier,
    on_ready: Callable[[], None],
    *,
    tls: TlsFiles | None = None,
) -> None:
    """Serve an ASGI application, feed the watchdog from the loop that serves, and finish what was begun.

    Args:
        app: the application.
        listener: from `listen`.
        shutdown: the request to stop.
        notifier: the service manager.
        on_ready: called when the first request can be taken, before READY is sent.
        tls: what the listener proves itself with; None for plain HTTP.
    """
    server = _Server(_config(app, tls))
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
