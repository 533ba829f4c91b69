"""cpq-oms-callback: takes what external systems call back, once, from who they prove to be."""

from __future__ import annotations

from collections.abc import Sequence

from app.adapters.postgres.schema import SchemaTooOldError
from app.entrypoints.callback.wiring import started_app
from app.messaging.retry import Unavailable
from app.runtime.load import watched
from app.runtime.logging import get_logger
from app.runtime.metrics import MetricsServer, new_registry
from app.runtime.notify import Notifier
from app.runtime.serving import listen, serve_until_stopped
from app.runtime.shutdown import Shutdown
from app.runtime.trace_export import exported
from app.settings import command_line
from app.settings.callback import CallbackSettings

log = get_logger(__name__)


async def serve(settings: CallbackSettings, release_id: str, notifier: Notifier) -> int:
    """Serve until asked to stop; return the exit status. READY needs the database with its schema."""
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    metrics_server = MetricsServer(settings.metrics_bind.host, settings.metrics_bind.port, registry)
    try:
        with listen(settings.http_bind.host, settings.http_bind.port, notifier) as listener:
            await metrics_server.start()
            async with (
                watched(registry, release_id) as load,
                exported(registry, release_id, settings.traces_of("callback")),
                started_app(settings, release_id, registry, load) as app,
            ):
                await serve_until_stopped(app, listener, shutdown, notifier, lambda: log.info("ready"))
    except (OSError, SchemaTooOldError, Unavailable) as error:
        log.error("start failed", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    finally:
        await metrics_server.stop()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the receiver; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    return command_line.run("callback", CallbackSettings, serve, argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
