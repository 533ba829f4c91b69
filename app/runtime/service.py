"""The life of a unit whose work is one loop: metrics, start-up checks, READY, the work until a stop is requested, the way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from app.runtime.load import LoadMonitor, watched
from app.runtime.logging import get_logger
from app.runtime.metrics import MetricsServer, new_registry
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown
from app.runtime.trace_export import exported
from app.runtime.tracing import Destination

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """What a unit's wiring is given besides its settings.

    Args:
        release_id: the release this process was installed from.
        registry: where its metrics are shown.
        notifier: the service manager.
        shutdown: the request to stop.
        load: told of the connection pool, it shows how long is waited for it.
    """

    release_id: str
    registry: CollectorRegistry
    notifier: Notifier
    shutdown: Shutdown
    load: LoadMonitor


@dataclass(frozen=True, slots=True)
class Work:
    """What a unit does once its start-up checks have passed.

    Args:
        run: returns when a stop was requested and nothing is in flight any more.
        status: the first line that `systemctl status` shows.
        about: what the log says of it when it is ready.
    """

    run: Callable[[], Awaitable[None]]
    status: str
    about: Mapping[str, object] = field(default_factory=dict)


async def serve(
    started: Callable[[Process], AbstractAsyncContextManager[Work]],
    *,
    release_id: str,
    notifier: Notifier,
    metrics_host: str,
    metrics_port: int,
    traces: Destination,
    refusals: tuple[type[Exception], ...],
) -> int:
    """Work until asked to stop and return the exit status: 0, or 1 when the unit cannot start or go on.

    Args:
        started: connects and checks; its work begins after READY, and what it opened is given back at the end.
        release_id: the installed release.
        notifier: the service manager.
        metrics_host: address at which /metrics is shown.
        metrics_port: its port.
        traces: where spans go.
        refusals: exceptions by which `started` says that a start-up check failed; another one is a defect and shows its trace.
    """
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    metrics_server = MetricsServer(metrics_host, metrics_port, registry)
    expected: tuple[type[Exception], ...] = (OSError, *refusals)
    try:
        await metrics_server.start()
        async with (
            watched(registry, release_id) as load,
            exported(registry, release_id, traces),
            started(Process(release_id, registry, notifier, shutdown, load)) as work,
        ):
            notifier.ready(work.status)
            _log.info("ready", **work.about)
            await work.run()
            notifier.stopping()
            _log.info("stopping")
    except expected as error:
        _log.error("start_failed", reason=str(error))
        return 1
    finally:
        await metrics_server.stop()
    return 0
