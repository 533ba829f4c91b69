"""Rehearsals with the same addresses live side by side, each in a network of its own, and go without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.scratch_environment import ScratchEnvironment, run

HOST = "scratch-1"
ADDRESS = "10.56.4.11"


@pytest.fixture(scope="module")
def rehearsals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScratchEnvironment, ScratchEnvironment]]:
    """Two that are up, alike but for their names."""
    one, other = (
        ScratchEnvironment(tmp_path_factory.mktemp(name), name=name, machines="existing") for name in ("sidea", "sideb")
    )
    for environment in (one, other):
        environment.write()
        done = environment.set_up("hosts")
        assert done.returncode == 0, done.stdout + done.stderr
    yield one, other
    for environment in (one, other):
        assert environment.play("hosts_down").returncode == 0


def identity(environment: ScratchEnvironment) -> str:
    """Return the machine id that the environment's host was made with."""
    record = json.loads((environment.state_directory / "hosts" / HOST / "host.json").read_text())
    return str(record["machine_id"])


def test_each_host_answers_as_itself(rehearsals: tuple[ScratchEnvironment, ScratchEnvironment]) -> None:
    assert identity(rehearsals[0]) != identity(rehearsals[1])
    for environment in rehearsals:
        assert environment.on_host(HOST, "cat /etc/machine-id").stdout.strip() == identity(environment)
        # As a release comes: by what ssh reads in the network, without a configuration of ours.
        as_release = run([*environment.inside, "ssh", f"release@{ADDRESS}", "sudo cat /etc/machine-id"])
        assert as_release.stdout.strip() == identity(environment), as_release.stderr


def test_one_host_of_the_other_network_is_no_host_of_this(
    rehearsals: tuple[ScratchEnvironment, ScratchEnvironment],
) -> None:
    """The other's key is refused although name and address are the same."""
    one, other = rehearsals
    crossed = run(
        [*one.inside, "ssh", "-F", str(other.state_directory / "ssh_config"), "-o", "ControlPath=none", HOST, "true"]
    )

    assert crossed.returncode == 255
    assert "Host key verification failed" in crossed.stderr


def test_outside_there_is_no_way_to_either(rehearsals: tuple[ScratchEnvironment, ScratchEnvironment]) -> None:
    routes = run(["ip", "route"]).stdout

    for environment in rehearsals:
        assert f"/sys/class/net/cpq-{environment.name}" not in environment.traces()["networks"]
        assert f"cpq-{environment.name}" not in routes
        assert environment.traces()["tables"] == []


def test_unchanged_hosts_need_nothing(rehearsals: tuple[ScratchEnvironment, ScratchEnvironment]) -> None:
    done = rehearsals[0].set_up("hosts")

    assert "changed=0" in done.stdout, done.stdout


def test_down_of_one_leaves_nothing_of_it_and_the_other_as_it_was(
    rehearsals: tuple[ScratchEnvironment, ScratchEnvironment],
) -> None:
    one, other = rehearsals
    before = one.traces()
    assert before["networks"] == ["/run/netns/cpq-sidea", "/etc/netns/cpq-sidea"]
    assert all(found for kind, found in before.items() if kind != "tables"), before

    assert one.set_up("down").returncode == 0

    assert not any(one.traces().values()), one.traces()
    assert not one.state_directory.exists()
    assert other.on_host(HOST, "cat /etc/machine-id").stdout.strip() == identity(other)

    assert other.set_up("down").returncode == 0

    assert not any(other.traces().values()), other.traces()
