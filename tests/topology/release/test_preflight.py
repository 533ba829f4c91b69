"""What inventory, variables and bundle alone can tell stops the release before the first host hears of it.

The mistakes that an environment for integration is there to catch are in test_integration_catches.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from app.contracts.loader import load_units
from tests.support.bundles import seal
from tests.support.scratch_environment import ANSIBLE
from tests.topology.release.conftest import ROOT, Environment, Run

SSH = 22
# systemd itself listens there, for the receiver of journals: its socket unit fails by name where somebody else does.
JOURNALS = 19532
COMMANDS = {**os.environ, "PATH": f"{ANSIBLE.parent}:{os.environ['PATH']}"}


@pytest.fixture
def bundle(environment: Environment, tmp_path: Path) -> Path:
    """The released bundle, to be spoilt."""
    return environment.copied_bundle(tmp_path / "bundle")


def test_a_release_that_drops_a_job_type_orders_can_still_reach_is_refused_and_changes_nothing(
    environment: Environment, bundle: Path
) -> None:
    """A bundle sound by itself: it serves every job type of its own processes, but not those that are routed to here."""
    for path in (*(bundle / "bpmn").glob("*.bpmn"), *(bundle / "contracts").glob("*.yml")):
        path.write_text(path.read_text().replace("provision-service", "levitate-service"))
    seal(bundle)
    default = environment.sql("SELECT route_id FROM cpq.process_route WHERE process_id = 'order-fulfillment-v1'")[0]
    before = environment.sql("SELECT count(*), max(deployed_at) FROM cpq.process_deployment")

    run = environment.release("-e", f"release_bundle={bundle}")

    assert run.code != 0
    reached = f"job type provision-service is still reached by order-fulfillment-v1 (route {default}"
    assert reached in run.output
    assert "and no worker of this release serves it" in run.output
    assert no_host_was_touched(run), run.output
    assert environment.sql("SELECT count(*), max(deployed_at) FROM cpq.process_deployment") == before


def test_the_live_check_before_deployment_refuses_what_only_the_bundle_serves(environment: Environment) -> None:
    """With its workers gone, a process is refused even though the bundle has workers for it."""
    environment.sql("DELETE FROM cpq.process_deployment")
    environment.host.run("systemctl stop 'cpq-oms-worker@fulfillment.service'")
    try:
        outcome = environment.admin("bpmn", "deploy")
    finally:
        environment.host.run("systemctl start cpq-oms-worker@fulfillment.service")

    assert "job type reserve-inventory of order-fulfillment-v1.bpmn is served by no live worker" in outcome["problems"]
    run = environment.release("--diff")
    assert run.code == 0, run.output
    assert "deploy order-fulfillment-v1.bpmn" in run.output


@pytest.mark.parametrize("name", ["inventories/lokal", "prdo"])
def test_a_mistyped_inventory_is_an_error(environment: Environment, name: str) -> None:
    run = environment.release("-i", name)

    assert run.code != 0
    assert f"{name}" in run.output
    assert no_host_was_touched(run)


def test_a_missing_secret_is_named_with_its_host(environment: Environment) -> None:
    run = environment.release("-e", "smoke_client_secret=")

    assert run.code != 0
    assert "smoke_client_secret is empty" in run.output
    assert no_host_was_touched(run)


def test_endpoints_of_another_kind_of_environment_are_refused(environment: Environment) -> None:
    run = environment.release("-e", "cpq_external_environment=production")

    assert run.code != 0
    assert "cpq_external_environment: expected non-production" in run.output
    assert no_host_was_touched(run)


def test_a_missing_bundle_is_named_with_its_remedy(environment: Environment) -> None:
    run = environment.release("-e", "release_bundle=/nowhere")

    assert run.code != 0
    assert "no bundle at /nowhere" in run.output
    assert "make bundle" in run.output


def test_a_bundle_with_a_simulator_is_refused_where_there_must_be_none_and_the_other_way_round(
    environment: Environment, tmp_path: Path
) -> None:
    build = [str(ANSIBLE), "-i", "prod", "playbooks/bundle.yml", "-e", f"artifact_build_output={tmp_path}"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    [manifest] = tmp_path.glob("*/manifest.json")
    assert sorted(json.loads(manifest.read_text())["units"]) == sorted(set(load_units()) - {"simulator"})

    lacking = environment.release("-e", f"release_bundle={manifest.parent}")
    holding = environment.release("-e", '{"release_simulator": false}')

    assert lacking.code != 0
    assert holding.code != 0
    assert "lacks the simulator, and this inventory needs it (release_simulator)" in lacking.output
    assert "holds the simulator, and this inventory has none (release_simulator)" in holding.output
    assert no_host_was_touched(lacking)
    assert no_host_was_touched(holding)


def test_an_interface_that_readers_or_the_inventory_cannot_live_with_stops_the_release_before_its_first_change(
    environment: Environment, bundle: Path
) -> None:
    path = bundle / "contracts/events/order.v1.schema.json"
    schema = json.loads(path.read_text())
    del schema["properties"]["customerId"]
    path.write_text(json.dumps(schema))
    asked = bundle / "contracts/settings.json"
    settings = json.loads(asked.read_text())
    settings["api"]["API_WORKERS"]["maximum"] = 8
    asked.write_text(json.dumps(settings))
    seal(bundle)

    run = environment.release("-e", f"release_bundle={bundle}")

    assert run.code != 0
    assert "settings api/API_WORKERS: maximum: was 64, is 8" in run.output
    assert "events/order.v1.schema.json: customerId: is gone or has another name" in run.output
    assert run.changed == 0
    assert "Install the operators' commands" not in run.output


@pytest.mark.parametrize("inventory", ["prod", "inventories/local"])
def test_the_command_as_typed_names_every_step_of_the_release(inventory: str) -> None:
    said = typed("ansible-playbook", "release.yml", "-i", inventory, "--list-tasks")

    runbook = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
    listed = re.findall(r"^  play #\d+ \(.*?\): (.*?)\tTAGS", said, re.MULTILINE)
    assert [name.strip() for name in listed] == [play["name"] for play in runbook]
    assert len(re.findall(r"^      .*\tTAGS", said, re.MULTILINE)) >= len(runbook), "plays without a task"


def test_the_command_as_typed_lists_a_host_of_production_for_every_tier() -> None:
    said = typed("ansible-playbook", "release.yml", "-i", "prod", "--list-hosts")

    plays = [play.splitlines() for play in said.split("\n  play #")[1:]]
    hosts_of = {
        play[0].partition("(")[2].partition(")")[0]: {line.strip() for line in play if line.startswith("      ")}
        for play in plays
    }
    document = json.loads(typed("ansible-inventory", "-i", "prod", "--list"))
    # Production has no simulator, and its release has no tier for one.
    tiers = yaml.safe_load((ROOT / "playbooks/release/vars.yml").read_text())["__release_tiers"]
    in_groups = {tier: set(document[tier]["hosts"]) for tier in tiers}
    assert all(in_groups.values()), in_groups
    # What no play of its own is for is looked at with all others.
    assert hosts_of["all:!localhost"] == set(document["_meta"]["hostvars"]) - {"localhost"}
    played = {tier for tier in tiers if tier in hosts_of}
    assert played == {"admin", "api", "callback", "console", "consumer", "relay", "worker"}
    assert {tier: hosts_of[tier] for tier in played} == {tier: in_groups[tier] for tier in played}


def test_every_consumer_of_production_is_activated_before_the_first_relay() -> None:
    said = typed("ansible-playbook", "release.yml", "-i", "prod", "--list-hosts")

    activated = re.findall(
        r"^      (consumer|relay)-\d$", said.partition("Activate the consumers, on every host")[2], re.MULTILINE
    )
    assert activated[:4] == ["consumer", "consumer", "relay", "relay"]


def test_every_port_that_a_released_host_listens_on_is_checked_before_anything_is_installed(
    environment: Environment,
) -> None:
    sockets = environment.host.run("ss --listening --tcp --numeric --no-header").stdout.splitlines()
    listening = {int(line.split()[3].rpartition(":")[2]) for line in sockets}

    run = environment.release("-v", playbooks=("playbooks/ports.yml",))

    shown = re.search(r'"listening": (\{.*?\})', run.output)
    assert shown, run.output
    assert {int(port) for port in json.loads(shown.group(1))} == listening - {SSH, JOURNALS}


def test_a_units_port_that_somebody_took_stops_the_release_before_its_first_change(environment: Environment) -> None:
    host = environment.host
    host.run("systemctl stop cpq-oms-relay.service; systemd-run --unit=squatter python3 -m http.server 9120")
    try:
        host.wait_until(lambda: bool(host.run("ss -lntH sport = :9120").stdout), "the port is taken")
        run = environment.release()
    finally:
        host.run("systemctl stop squatter.service; systemctl start cpq-oms-relay.service")

    assert run.code != 0
    assert "port 9120 is taken by python3 (pid " in run.output
    assert "squatter.service) and cpq-oms-relay*.service needs it; stop that process" in run.output
    assert run.changed == 0
    assert "Check the platform" not in run.output


def test_a_full_disk_on_a_host_stops_the_release_before_its_first_change(environment: Environment) -> None:
    host = environment.host
    host.run("mkdir -p /run/full && mount -t tmpfs -o size=8M none /run/full")
    try:
        # To this host nothing is installed there yet, so all of the bundle is due.
        run = environment.release("-e", "app_release_root=/run/full")
        left = host.run("ls -A /run/full").stdout
    finally:
        host.run("umount /run/full && rmdir /run/full")

    assert run.code != 0
    reason = (
        rf"disk full: {host.name}: /run/full has [78] MiB free, this release takes up to \d{{3,4}} MiB; free some space"
    )
    assert len(re.findall(reason, run.output)) >= 1, run.output
    assert run.changed == 0
    assert "Install the operators' commands" not in run.output
    assert not left


def no_host_was_touched(run: Run) -> bool:
    return "See what is installed" not in run.output


@functools.cache
def typed(*words: str) -> str:
    """Run a command as an operator types it at the root of the repository, and return what it says."""
    done = subprocess.run(words, cwd=ROOT, env=COMMANDS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
