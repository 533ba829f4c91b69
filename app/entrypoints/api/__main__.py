"""cpq-oms-api: serves the HTTP API until it is told to stop."""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.entrypoints.api.gunicorn_conf import BACKLOG, ApiServer
from app.entrypoints.api.supervision import ProgressPipe, Supervisor
from app.runtime.clock import SystemClock
from app.runtime.logging import configure, get_logger
from app.runtime.notify import Notifier
from app.runtime.release import installed_release
from app.settings.api import ApiSettings
from app.settings.reader import (
    EXIT_CONFIG,
    SettingsError,
    check,
    credentials_directory,
    read,
    share_metrics_directory,
    take_environment,
)

log = get_logger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the unit; exit status 78 means that its settings are wrong and starting again is no use."""
    parser = argparse.ArgumentParser(prog="cpq-oms-api", description=__doc__)
    parser.add_argument("--check-config", action="store_true", help="validate the settings and exit with 0 or 78")
    arguments = parser.parse_args(argv)
    environ = take_environment()
    if arguments.check_config:
        return check(ApiSettings, environ)
    try:
        settings = read(ApiSettings, environ, credentials_directory(environ))
    except SettingsError as error:
        sys.stderr.writelines(problem + "\n" for problem in error.problems)
        return EXIT_CONFIG
    configure(settings.log_level, "api", installed_release().release_id, settings.app_instance_id)
    notifier = Notifier.from_environ(environ)
    try:
        listeners = [
            notifier.listener(name, bind.host, bind.port, backlog=BACKLOG)
            for name, bind in (("http", settings.http_bind), ("metrics", settings.metrics_bind))
        ]
    except OSError as error:
        log.error("address is not usable", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    _serve(settings, environ, notifier, listeners)
    return 0


def _serve(
    settings: ApiSettings, environ: Mapping[str, str], notifier: Notifier, listeners: Sequence[socket.socket]
) -> None:
    # systemd says where the unit may keep files while it runs; None means the usual temporary directory.
    metrics_directory = Path(tempfile.mkdtemp(dir=environ.get("RUNTIME_DIRECTORY"), prefix="metrics-"))
    share_metrics_directory(metrics_directory)
    pipe = ProgressPipe()
    supervisor = Supervisor(notifier, pipe, SystemClock())

    def load() -> Any:
        # Imported here, in the worker: a broken module then fails the start the way any other start-up failure does,
        # and the metrics library finds its directory.
        from app.entrypoints.api.wiring import build  # noqa: PLC0415

        progress = (pipe, supervisor.report_interval)
        return build(settings, metrics_directory, progress, is_first_start=not supervisor.is_ready)

    ApiServer(settings, supervisor, load, listeners, on_exit=lambda: shutil.rmtree(metrics_directory)).run()


if __name__ == "__main__":
    sys.exit(main())
