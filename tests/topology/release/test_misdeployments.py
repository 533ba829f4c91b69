"""Releases that must not happen, tried on released hosts: docs/misdeployments.md lists all of them, and what shows the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.adapters.postgres.schema import REQUIRED_MIGRATION
from tests.support.bundles import reissued, seal
from tests.topology.release.conftest import Environment
from tests.topology.release.mistakes import (
    HOST,
    INTERFACES,
    SEEN,
    Arguments,
    Mistake,
    Plant,
    altered_inventory,
    stops_and_changes_nothing,
)

UNSAFE = "Refuse clocks that differ, certificates that end soon, units that were altered, and changes of data that could not be restored"
ORDER = "Refuse what breaks the order"
SETTINGS = "app_service : Compare | Hold release, settings and state of the units against their declaration"

IDENTITY = "/etc/cpq-oms/identity.json"
CERTIFICATE = "/etc/cpq-oms/tls/planted/cert.pem"
FIGURES = "/var/lib/prometheus/node-exporter/planted.prom"
RELAXED = "/run/systemd/system/cpq-oms-relay.service.d"
CONTRACT = f"""-- depends: {REQUIRED_MIGRATION}
-- replaced-by: {REQUIRED_MIGRATION}
-- removes: column cpq.quote.planted
-- budget: lock 200ms, duration 5s
SET LOCAL lock_timeout = '1s';
ALTER TABLE cpq.quote DROP COLUMN planted;
"""


def later_bundle(environment: Environment, folder: Path) -> Path:
    """A bundle of the same content with a later id: a release of it would change something."""
    reissued(environment.copied_bundle(folder / "bundle"), folder / "later")
    return folder / "later"


def later_migrations(change: Callable[[Path], object]) -> Plant:
    """A later bundle with other migrations than those that were reviewed."""

    @contextmanager
    def planted(environment: Environment, folder: Path) -> Iterator[Arguments]:
        bundle = later_bundle(environment, folder)
        change(bundle / "migrations")
        seal(bundle)
        yield ["-e", f"release_bundle={bundle}"]

    return planted


def contract_beside_its_expand(migrations: Path) -> None:
    (migrations / "0999_contract_planted.sql").write_text(CONTRACT)


def edited(migrations: Path) -> None:
    path = migrations / f"{REQUIRED_MIGRATION}.sql"
    text = path.read_text()
    path.unlink()
    path.write_text(f"{text}-- edited\n")


def at_host(plant: str, heal: str) -> Plant:
    """A later bundle to a host on which somebody ran a command."""

    @contextmanager
    def planted(environment: Environment, folder: Path) -> Iterator[Arguments]:
        bundle = later_bundle(environment, folder)
        environment.host.run(plant)
        try:
            yield ["-e", f"release_bundle={bundle}"]
        finally:
            environment.host.run(heal)

    return planted


@contextmanager
def host_of_staging(environment: Environment, _: Path) -> Iterator[Arguments]:
    """An inventory with an address of another environment, as far as the host can tell."""
    before = environment.host.run(f"cat {IDENTITY}").stdout
    environment.host.run(
        f"cat > {IDENTITY}", standard_input=json.dumps(json.loads(before) | {"environment": "staging"})
    )
    try:
        yield []
    finally:
        environment.host.run(f"cat > {IDENTITY}", standard_input=before)


@contextmanager
def frozen(environment: Environment, folder: Path) -> Iterator[Arguments]:
    declared = environment.admin("release", "freeze", "--reason", "'end of quarter, OPS-811'")
    assert declared["changed"], declared
    try:
        yield ["-e", f"release_bundle={later_bundle(environment, folder)}"]
    finally:
        environment.admin("release", "thaw", "--reason", "'the quarter is over'")


@contextmanager
def clock_behind(environment: Environment, folder: Path) -> Iterator[Arguments]:
    """Hosts on one machine have one clock, so it is the control machine that says another time."""
    yield ["-e", f"release_bundle={later_bundle(environment, folder)}", "-e", f"release_clock={time.time() + 600}"]


def ends_in(days: int) -> str:
    labels = f'file="{CERTIFICATE}",number="0",subject="CN=planted"'
    line = f"cpq_certificate_not_after_seconds{{{labels}}} {time.time() + days * 86400 + 3600:.0f}"
    return f"mkdir -p $(dirname {FIGURES}) && echo '{line}' > {FIGURES}"


MISDEPLOYMENTS = {
    "contract migration beside its expand": Mistake(
        later_migrations(contract_beside_its_expand),
        INTERFACES,
        ORDER,
        ("contract-before-nobody-needs-the-old", "0999_contract_planted", "still runs, which may look at the old"),
    ),
    "edited migration": Mistake(
        later_migrations(edited),
        INTERFACES,
        ORDER,
        ("migration-edited", f"{REQUIRED_MIGRATION} was applied with another content by", "Restore the file"),
    ),
    "host of another environment": Mistake(
        host_of_staging, SEEN, HOST, ("ci-1: expected ci-1 of ci", "of staging", f"in {IDENTITY}")
    ),
    "certificate about to end": Mistake(
        at_host(ends_in(20), f"rm {FIGURES}"),
        INTERFACES,
        UNSAFE,
        (f"ci-1: certificate-expiry: {CERTIFICATE} ends in 20 days, at least 21 are wanted", "rotate_certificates.yml"),
    ),
    "clock": Mistake(
        clock_behind, INTERFACES, UNSAFE, ("ci-1: clock-skew: its clock is", "s behind the control machine's")
    ),
    "freeze": Mistake(
        frozen,
        INTERFACES,
        "Refuse it while releases are frozen",
        ("releases are frozen: end of quarter, OPS-811 (", "until somebody ends it", "release_despite_freeze"),
    ),
    "unit without its hardening": Mistake(
        at_host(
            f"mkdir -p {RELAXED} && printf '[Service]\\nProtectSystem=no\\n' > {RELAXED}/planted.conf && systemctl daemon-reload",
            f"rm -r {RELAXED} && systemctl daemon-reload",
        ),
        INTERFACES,
        UNSAFE,
        (f"ci-1: unit-altered: {RELAXED}/planted.conf alters cpq-oms-relay.service", "systemctl revert"),
    ),
    "unknown flag": Mistake(
        altered_inventory(
            "all",
            "cpq_feature_flag_defaults: {}",
            "cpq_feature_flag_defaults: {order-fulfilment-v2: true}",
            "feature_flags.yml",
        ),
        SEEN,
        SETTINGS,
        ("admin: FEATURE_FLAG_DEFAULTS: entry 1: expected one of order-fulfillment-start, order-fulfillment-v2",),
    ),
    "insane timeout": Mistake(
        altered_inventory("api", "'DB_STATEMENT_TIMEOUT': 'PT5S'", "'DB_STATEMENT_TIMEOUT': 'PT5H'"),
        SEEN,
        SETTINGS,
        ("DB_STATEMENT_TIMEOUT",),
    ),
}


@pytest.mark.parametrize("name", MISDEPLOYMENTS)
def test_a_misdeployment_stops_at_its_gate_and_what_ran_goes_on(
    environment: Environment, tmp_path: Path, name: str
) -> None:
    stops_and_changes_nothing(environment, tmp_path, MISDEPLOYMENTS[name])
