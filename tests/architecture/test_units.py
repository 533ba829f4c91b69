"""Unit files: alike where nothing speaks for a difference, and in step with the contract. systemd itself judges them on a host."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
LONGEST_USER_NAME = 31
DAEMONS = [name for name in SERVICES if "Type=notify" in (UNITS / name).read_text()]


def sections(name: str) -> dict[str, list[str]]:
    """Return the directives of each section, comments left out."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if line.startswith("["):
            current = found.setdefault(line, [])
        elif line and not line.startswith("#"):
            current.append(line)
    return found


def sandbox(name: str) -> list[str]:
    """Return the directives behind the blank line in [Service]: start and lifecycle come before it."""
    service = (UNITS / name).read_text().split("[Service]\n")[1].split("\n[")[0]
    return [line for line in service.split("\n\n")[1].splitlines() if line]


@pytest.mark.parametrize("name", SERVICES)
def test_sandbox_is_the_same_in_alphabetical_order(name: str) -> None:
    assert sandbox(name) == sandbox("cpq-oms-api.service")
    assert sandbox(name) == sorted(sandbox(name), key=lambda line: line.split("=")[0].lower())


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_reports_ready_is_watched_and_drains(name: str) -> None:
    service = sections(name)["[Service]"]
    keys = {line.split("=")[0] for line in service}

    assert {"Type=notify", "NotifyAccess=main", "Restart=on-failure", "RestartPreventExitStatus=78"} <= set(service)
    assert {"WatchdogSec", "TimeoutStartSec", "TimeoutStopSec", "SyslogIdentifier", "EnvironmentFile"} <= keys
    assert "PartOf=cpq-oms.target" in sections(name)["[Unit]"]
    assert sections(name)["[Install]"] == ["WantedBy=cpq-oms.target"]


@pytest.mark.parametrize("name", SERVICES)
def test_unit_is_documented_limited_and_in_the_slice(name: str) -> None:
    unit, service = sections(name)["[Unit]"], sections(name)["[Service]"]

    assert any(line.startswith("Description=CPQ/OMS ") for line in unit)
    assert "Documentation=file:///usr/share/doc/cpq-oms/units.md" in unit
    assert "Slice=cpq-oms.slice" in service
    if name in DAEMONS:
        assert {"StartLimitIntervalSec", "StartLimitBurst"} <= {line.split("=")[0] for line in unit}
    assert name.removesuffix(".service") in (UNITS / "README.md").read_text().replace("GROUP", "").replace(
        "COMMAND", ""
    )


def test_units_load_the_credentials_that_the_contract_names() -> None:
    contract = yaml.safe_load((ROOT / "app/contracts/units.yml").read_text())["units"]
    for unit, about in contract.items():
        service = sections(about["service"])["[Service]"]
        loaded = [line for line in service if line.startswith("LoadCredential=") and ":/etc/cpq-oms/tls/" not in line]

        assert loaded == [
            f"LoadCredential={name}:/etc/cpq-oms/credentials/{unit}/{name}" for name in about["credentials"]
        ]


@pytest.mark.parametrize("unit", ["worker", "admin"])
def test_units_start_with_and_without_a_certificate(unit: str) -> None:
    contract = yaml.safe_load((ROOT / "app/contracts/units.yml").read_text())["units"]
    service = sections(contract[unit]["service"])["[Service]"]

    for name, file in (("camunda-certificate", "cert.pem"), ("camunda-key", "key.pem")):
        assert f"LoadCredential={name}:/etc/cpq-oms/tls/{unit}/{file}" in service
        # Taken where the file is missing: without it a unit of an environment without TLS would not start. An empty value is
        # no value to systemd.
        assert f"SetCredential={name}:\\n" in service


@pytest.mark.parametrize("name", [name for name in DAEMONS if "@" in name])
def test_each_instance_of_a_daemon_has_a_user_of_its_own(name: str) -> None:
    contract = yaml.safe_load((ROOT / "app/contracts/units.yml").read_text())["units"]
    [(unit, about)] = [(unit, about) for unit, about in contract.items() if about["service"] == name]

    assert f"User=cpq-{unit}-%i" in sections(name)["[Service]"]
    assert not [instance for instance in about["instances"] if len(f"cpq-{unit}-{instance}") > LONGEST_USER_NAME]


def test_secrets_come_as_credentials_only() -> None:
    for path in UNITS.glob("cpq-oms*"):
        text = path.read_text().lower()

        assert "{{" not in text
        assert not [line for line in text.splitlines() if line.startswith("environment=") and "password" in line]


def test_jobs_of_the_operator_run_what_the_admin_unit_is_allowed() -> None:
    admin = sections("cpq-oms-admin@.service")["[Service]"]
    own = {"ExecStart", "ExecStopPost", "StateDirectory", "SuccessExitStatus", "TimeoutStartSec", "SyslogIdentifier"}
    jobs = [
        path.name
        for path in UNITS.glob("cpq-oms-*.service")
        if "@" not in path.name and "/bin/cpq-oms-admin " in path.read_text()
    ]
    assert len(jobs) > 3
    for name in jobs:
        job = sections(name)["[Service]"]

        assert [line for line in job if line.split("=")[0] not in own] == [
            line for line in admin if line.split("=")[0] not in own
        ]


def test_every_timer_that_a_release_pauses_runs_again_by_itself_when_the_release_is_gone() -> None:
    paused = yaml.safe_load((ROOT / "playbooks/release/vars.yml").read_text())["release_risky_timers"]

    assert sections("cpq-oms-resume.service")["[Unit]"][-1] == f"OnSuccess={' '.join(paused)}"
    assert "[Install]" not in sections("cpq-oms-resume.timer"), "a host that starts begins no release"


def test_paused_timers_wait_longer_than_the_longest_step_of_a_release() -> None:
    def minutes(name: str, section: str, key: str) -> int:
        [value] = [line for line in sections(name)[section] if line.startswith(f"{key}=")]
        return int(value.removeprefix(f"{key}=").removesuffix("min"))

    lease = minutes("cpq-oms-resume.timer", "[Timer]", "OnActiveSec")

    assert lease > minutes("cpq-oms-migrate.service", "[Service]", "TimeoutStartSec")
