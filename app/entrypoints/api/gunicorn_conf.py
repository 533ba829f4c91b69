"""How gunicorn runs the application: two listeners, uvicorn workers, its own notifications replaced by ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import gunicorn.arbiter
import gunicorn.glogging
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from uvicorn_worker import UvicornWorker

from app.entrypoints.api.supervision import Supervisor
from app.settings.api import ApiSettings

GRACE_S = 30
"""How long requests in flight may take after SIGTERM; less than the unit's TimeoutStopSec."""


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


class ApiServer(BaseApplication):  # type: ignore[misc]
    """The API as gunicorn runs it.

    Args:
        settings: the unit's.
        supervisor: watches the workers.
        load: builds the ASGI application; called in each worker after the fork. An exception there, or in the
            application's start-up, ends the worker with a status that makes the arbiter give up instead of trying again.
        on_exit: called once, in the main process, when all workers have ended.
    """

    def __init__(
        self,
        settings: ApiSettings,
        supervisor: Supervisor,
        load: Callable[[], Any],
        *,
        on_exit: Callable[[], None],
    ) -> None:
        self._on_exit = on_exit
        self._settings = settings
        self._supervisor = supervisor
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": [str(self._settings.http_bind), str(self._settings.metrics_bind)],
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
