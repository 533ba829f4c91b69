"""How gunicorn runs the application: two listeners that outlive it, uvicorn workers, its own notifications replaced by ours."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gunicorn.arbiter
import gunicorn.glogging
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from uvicorn_worker import UvicornWorker

from app.entrypoints.api.supervision import Supervisor
from app.runtime.serving import DrainingServer
from app.settings.api import ApiSettings

GRACE_S = 30
"""How long requests in flight may take after SIGTERM; less than the unit's TimeoutStopSec."""


BACKLOG = 2048
"""How many connections wait to be accepted, those of the time of a restart among them."""


class JournalLogger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """Writes gunicorn's and uvicorn's lines through the root logger's JSON handler."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS[cfg.loglevel]
        self.error_log.setLevel(self.loglevel)
        # The worker class hands these handlers on to uvicorn's loggers.
        self.error_log.handlers = logging.getLogger().handlers

    def reopen_files(self) -> None:
        """There are none: everything goes to the journal."""

    def close_on_exec(self) -> None:
        """The journal's stream is inherited on purpose."""


class ApiWorker(UvicornWorker):  # type: ignore[misc]
    """A uvicorn server per worker; requests are logged by the application, once."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": GRACE_S - 5,
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(config=self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(gunicorn.arbiter.Arbiter.WORKER_BOOT_ERROR)


class SupervisedArbiter(gunicorn.arbiter.Arbiter):  # type: ignore[misc]
    """gunicorn's main process, which also watches its workers for the service manager."""

    supervisor: Supervisor
    _is_stopping = False

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        self.supervisor.watch(list(self.WORKERS), self.num_workers)
        signals: list[int] = super().wait_for_signals(timeout=min(timeout, self.supervisor.pause))
        return signals

    def stop(self, graceful: bool = True) -> None:
        self._is_stopping = True
        self.supervisor.stopping()
        super().stop(graceful)

    def reap_workers(self) -> None:
        try:
            super().reap_workers()
        except HaltServer:
            # Several workers fail a start together; the first one ends it, the next must not break off its end.
            if not self._is_stopping:
                raise


def _forget_gauges(_arbiter: Any, worker: Any) -> None:
    """What a worker held open is not held any more; what it counted stays counted."""
    # Imported late: the metrics library must not be there before its directory is known.
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


class ApiServer(BaseApplication):  # type: ignore[misc]
    """The API as gunicorn runs it.

    Args:
        settings: the unit's.
        supervisor: watches the workers.
        load: builds the ASGI application; called in each worker after the fork. An exception there, or in the
            application's start-up, ends the worker with a status that makes the arbiter give up instead of trying again.
        listeners: what it serves on; they belong to it from now on.
        on_exit: called once, in the main process, when all workers have ended.
    """

    def __init__(
        self,
        settings: ApiSettings,
        supervisor: Supervisor,
        load: Callable[[], Any],
        listeners: Sequence[socket.socket],
        *,
        on_exit: Callable[[], None],
    ) -> None:
        self._on_exit = on_exit
        self._settings = settings
        self._supervisor = supervisor
        self._load = load
        self._listeners = listeners
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": [f"fd://{listener.detach()}" for listener in self._listeners],
            "backlog": BACKLOG,
            "workers": self._settings.api_workers,
            "worker_class": ApiWorker,
            "logger_class": JournalLogger,
            "loglevel": self._settings.log_level.lower(),
            "proc_name": "cpq-oms-api",
            "preload_app": False,
            # A blocked event loop is the watchdog's: the unit restarts as a whole and says so.
            "timeout": 0,
            "graceful_timeout": GRACE_S,
            # Longer than a proxy keeps idle connections, so that it is never the server that closes first.
            "keepalive": 75,
            "control_socket_disable": True,
            "child_exit": _forget_gauges,
            "on_exit": lambda _arbiter: self._on_exit(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._load()

    def run(self) -> None:
        """Serve until told to stop; the arbiter ends with SystemExit."""
        arbiter = SupervisedArbiter(self)
        arbiter.supervisor = self._supervisor
        arbiter.run()
