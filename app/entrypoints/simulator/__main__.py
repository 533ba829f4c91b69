"""cpq-oms-simulator: the token issuer and the external systems of environments that have no real ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from app.contracts.loader import environment_problems, load_external_systems
from app.entrypoints.simulator.app import create_app
from app.entrypoints.simulator.behaviours import Behaviour, Behaviours, Mode
from app.entrypoints.simulator.callbacks import Finisher
from app.entrypoints.simulator.external_system_resource import Surroundings
from app.entrypoints.simulator.issuer import Issuer
from app.entrypoints.simulator.ledger import Ledger
from app.runtime.clock import SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.load import watched
from app.runtime.logging import get_logger
from app.runtime.metrics import MetricsServer, SimulatorMetrics, new_registry
from app.runtime.notify import Notifier
from app.runtime.serving import listen, serve_until_stopped
from app.runtime.shutdown import Shutdown
from app.runtime.trace_export import exported
from app.settings import command_line
from app.settings.simulator import SimulatorSettings

log = get_logger(__name__)


async def serve(settings: SimulatorSettings, release_id: str, notifier: Notifier) -> int:
    """Serve until asked to stop; return the exit status."""
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    state, clock, ids = Path(settings.state_directory), SystemClock(), UuidV7Ids()
    try:
        issuer = Issuer(settings.issuer_url, settings.auth_audience, state, clock, ids)
        ledger = Ledger(state / "ledger.sqlite3", clock, ids)
    except (OSError, ValueError, sqlite3.Error) as error:
        log.error("state directory is not usable", path=str(state), error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    systems = load_external_systems()
    secrets = {system: settings.secrets_of(system)[0] for system, policy in systems.items() if policy.callback.secret}
    finisher = Finisher(ledger, secrets, clock, ids)
    app = create_app(
        issuer=issuer,
        client_secrets=settings.issuer_client_secret.accepted,
        systems=systems,
        tokens={system: settings.tokens_of(system) for system in systems},
        environment=settings.app_env,
        kind=settings.external_environment,
        around=Surroundings(
            starting_behaviours(systems, settings), ledger, finisher, SimulatorMetrics(registry), shutdown
        ),
    )
    metrics_server = MetricsServer(settings.metrics_bind.host, settings.metrics_bind.port, registry)

    def ready() -> None:
        finisher.resume()
        log.info("ready", http_bind=str(settings.http_bind))

    try:
        with listen(settings.http_bind.host, settings.http_bind.port, notifier) as listener:
            await metrics_server.start()
            async with (
                watched(registry, release_id),
                exported(registry, release_id, settings.traces_of("simulator")),
            ):
                await serve_until_stopped(app, listener, shutdown, notifier, ready)
    except OSError as error:
        log.error("address is not usable", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    finally:
        await finisher.stop()
        await metrics_server.stop()
        ledger.close()
    return 0


def starting_behaviours(systems: Iterable[str], settings: SimulatorSettings) -> Behaviours:
    """Every system as the settings want it: slow by its latency, and for a share of calls not there."""
    behaviours = Behaviours(systems)
    for system, wanted in settings.simulator_behaviours.items():
        usual = Behaviour(latency=wanted.latency or timedelta())
        behaviours.set(system, usual)
        if wanted.error_share:
            behaviours.add(system, replace(usual, mode=Mode.ERROR, status=503, share=wanted.error_share))
    return behaviours


def problems(settings: SimulatorSettings) -> list[str]:
    """Say whether the environment is of the kind that this one proves to its callers, and which systems there are not."""
    unknown = sorted({*settings.simulator_behaviours} - {*load_external_systems()})
    return [
        *environment_problems(settings.app_env, settings.external_environment),
        *(f"SIMULATOR_BEHAVIOURS: {system} is no system of external_systems.yml" for system in unknown),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulator; exit status 78 for settings that are wrong."""
    return command_line.run("simulator", SimulatorSettings, serve, argv, description=__doc__, problems=problems)


if __name__ == "__main__":
    raise SystemExit(main())
