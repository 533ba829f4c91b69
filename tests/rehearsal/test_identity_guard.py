"""A host that is another's stops every playbook before the first change, whichever way it comes to be addressed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.rehearsal import Rehearsal

IDENTITY = "/etc/cpq-oms/identity.json"


def changes(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Hosts that a play has changed, by its recap."""
    return {line.split()[0] for line in done.stdout.splitlines() if " changed=" in line and " changed=0 " not in line}


@pytest.fixture
def strayed(rehearsal: Rehearsal) -> Iterator[str]:
    """One host that says it belongs to another environment."""
    host = rehearsal.groups["consumer"][0]
    rehearsal.run(
        host, f"cp -p {IDENTITY} /run/identity.json && sed -i 's/{rehearsal.environment}/another/' {IDENTITY}"
    )
    yield host
    rehearsal.run(host, f"cp -p /run/identity.json {IDENTITY}")


def test_every_host_says_who_it_is(rehearsal: Rehearsal) -> None:
    for host in rehearsal.hosts:
        tiers = sorted(tier for tier, hosts in rehearsal.groups.items() if host in hosts)
        said = json.loads(rehearsal.run(host, f"cat {IDENTITY}").stdout)

        assert said == {"environment": rehearsal.environment, "host": host, "tiers": tiers}


@pytest.mark.parametrize("playbook", ["firewall", "health", "edge", "release.yml"])
def test_a_playbook_stops_at_a_host_of_another_environment(rehearsal: Rehearsal, strayed: str, playbook: str) -> None:
    done = rehearsal.play(playbook, check=False)

    assert done.returncode != 0
    assert f"{strayed}: expected {strayed} of {rehearsal.environment}" in done.stdout
    assert f"found {strayed} of another" in done.stdout
    assert changes(done) == set()


def test_an_address_that_leads_to_another_host_stops_it_too(rehearsal: Rehearsal) -> None:
    first, other = rehearsal.groups["api"][0], rehearsal.groups["edge"][0]
    done = rehearsal.play("guard", "-e", json.dumps({"cpq_env": rehearsal.environment}))
    assert done.returncode == 0

    address = {"ansible_host": rehearsal.hosts[other], "ansible_ssh_extra_args": f"-o HostKeyAlias={other}"}
    done = rehearsal.play("guard", "--limit", first, "-e", json.dumps(address), check=False)

    assert done.returncode != 0
    assert f"found {other} of {rehearsal.environment}" in done.stdout


def test_a_certificate_of_another_environment_is_enough(rehearsal: Rehearsal) -> None:
    host = rehearsal.groups["edge"][0]
    folder = "/etc/cpq-oms/tls/stray"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=edge@{0}/O=another/OU=edge -keyout {1}/key.pem -out {1}/cert.pem"
    rehearsal.run(host, f"mkdir -p {folder} && {make.format(host, folder)}")
    try:
        done = rehearsal.play("guard", check=False)
    finally:
        rehearsal.run(host, f"rm -r {folder}")

    assert done.returncode != 0
    assert f"found {host} of another (edge) in {folder}/cert.pem" in done.stdout
