"""cpq-oms-console: shows operators what the platform knows of itself; changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from app.entrypoints.console.wiring import started_console
from app.runtime.load import watched
from app.runtime.logging import get_logger
from app.runtime.metrics import MetricsServer, new_registry
from app.runtime.notify import Notifier
from app.runtime.serving import TlsFiles, listen, serve_until_stopped, serving
from app.runtime.shutdown import Shutdown
from app.settings import command_line
from app.settings.console import ConsoleSettings

log = get_logger(__name__)


async def serve(settings: ConsoleSettings, release_id: str, notifier: Notifier) -> int:
    """Serve until asked to stop; return the exit status. READY needs its state directory and, with TLS, its certificate."""
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    metrics_server = MetricsServer(settings.metrics_bind.host, settings.metrics_bind.port, registry)
    tls = _tls_files(settings)
    try:
        with (
            listen(settings.http_bind.host, settings.http_bind.port) as listener,
            listen(settings.console_intake_bind.host, settings.console_intake_bind.port) as intake_listener,
            listen(settings.console_alerts_bind.host, settings.console_alerts_bind.port) as alerts_listener,
        ):
            await metrics_server.start()
            async with (
                watched(registry, release_id) as load,
                started_console(settings, release_id, registry, load) as console,
                serving(console.intake, intake_listener, tls=tls),
                serving(console.alerts, alerts_listener),
            ):
                await serve_until_stopped(
                    console.pages, listener, shutdown, notifier, lambda: log.info("ready"), tls=tls
                )
    except (OSError, sqlite3.Error) as error:
        log.error("start failed", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    finally:
        await metrics_server.stop()
    return 0


def _tls_files(settings: ConsoleSettings) -> TlsFiles | None:
    """The files that the unit imports from the host's credential store."""
    if settings.console_tls == "off":
        return None
    folder = Path(settings.credentials_directory)
    return TlsFiles(folder / "console-tls.certificate", folder / "console-tls.key")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console; exit status 78 for settings that are wrong, 1 when it cannot listen or keep its state."""
    return command_line.run("console", ConsoleSettings, serve, argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
