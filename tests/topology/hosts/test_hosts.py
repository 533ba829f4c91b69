"""Hosts survive what machines survive, come back when they are found dead, and go without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scratch_environment import ScratchEnvironment, run

FIRST = "scratch-1"
SECOND = "scratch-2"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchEnvironment]:
    """Two hosts that are up; each test leaves them up."""
    addresses = {FIRST: "10.56.4.11", SECOND: "10.56.4.12"}
    environment = ScratchEnvironment(tmp_path_factory.mktemp("hosts"), hosts=addresses)
    environment.write()
    assert environment.set_up("hosts").returncode == 0
    yield environment
    assert environment.play("hosts_down").returncode == 0


def actions(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the role says it did."""
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith(" " * 25)]
    assert bool(lines) == ("changed=1" in done.stdout)
    return lines


def supervisors(environment: ScratchEnvironment, host: str) -> list[int]:
    """Return the process that a person would see as the machine."""
    found = run(["pgrep", "-xf", f"systemd-nspawn .*--machine=cpq-{environment.name}-{host} .*"])
    return [int(word) for word in found.stdout.split()]


def supervisor(environment: ScratchEnvironment, host: str) -> int:
    (found,) = supervisors(environment, host)
    return found


def wait_for_ssh(environment: ScratchEnvironment, host: str) -> None:
    deadline = time.monotonic() + 20
    while environment.on_host(host, "true").returncode != 0:
        assert time.monotonic() < deadline, f"{host} does not come back"
        time.sleep(0.1)


def test_unchanged_hosts_need_nothing(hosts: ScratchEnvironment) -> None:
    assert actions(hosts.play("hosts")) == []


def test_hosts_reach_each_other_by_name(hosts: ScratchEnvironment) -> None:
    assert hosts.on_host(FIRST, f"ping -c1 -W2 {SECOND}").returncode == 0


def test_hosts_of_another_environment_are_out_of_reach(hosts: ScratchEnvironment) -> None:
    """An address on another environment's bridge stands for its hosts: the machine itself would route between them."""
    run(["ip", "link", "add", "cpq-other", "type", "bridge"]).check_returncode()
    try:
        run(["ip", "address", "add", "10.56.5.1/24", "dev", "cpq-other"]).check_returncode()
        run(["ip", "link", "set", "cpq-other", "up"]).check_returncode()
        rules = run(["nft", "list", "table", "ip", f"cpq_{hosts.name}"]).stdout
    finally:
        run(["ip", "link", "delete", "cpq-other"]).check_returncode()

    assert f'iifname "cpq-{hosts.name}" oifname != "cpq-{hosts.name}" oifname "cpq-*" drop' in rules


def test_killed_supervisor_leaves_no_second_machine(hosts: ScratchEnvironment) -> None:
    os.kill(supervisor(hosts, FIRST), signal.SIGKILL)

    assert actions(hosts.play("hosts")) == [f"start {FIRST}: its supervisor was killed"]
    assert hosts.on_host(FIRST, "systemctl is-system-running --wait").stdout.strip() == "running"


def test_host_that_lost_its_power_starts_at_once(hosts: ScratchEnvironment) -> None:
    """Connections that nobody closed keep its network for minutes; here it is held by this test."""
    supervisors_children = run(["pgrep", "-P", str(supervisor(hosts, FIRST))]).stdout.split()
    with Path(f"/proc/{supervisors_children[0]}/ns/net").open():
        Path(f"/sys/fs/cgroup/unified/cpq-{hosts.name}-{FIRST}/cgroup.kill").write_text("1")

        assert actions(hosts.play("hosts")) == [f"start {FIRST}: it was not running"]

    assert hosts.on_host(FIRST, "systemctl is-system-running --wait").stdout.strip() == "running"


def test_host_that_was_switched_off_comes_back_with_its_disk(hosts: ScratchEnvironment) -> None:
    hosts.on_host(FIRST, "touch /root/kept; systemctl poweroff")
    deadline = time.monotonic() + 20
    while supervisors(hosts, FIRST):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert actions(hosts.play("hosts")) == [f"start {FIRST}: it was not running"]
    assert hosts.on_host(FIRST, "test -e /root/kept").returncode == 0


def test_host_reboots_by_itself_and_keeps_its_identity_and_journal(hosts: ScratchEnvironment) -> None:
    identity = hosts.on_host(FIRST, "cat /etc/machine-id").stdout
    boots = len(hosts.on_host(FIRST, "journalctl --list-boots --no-pager -q").stdout.splitlines())

    hosts.on_host(FIRST, "systemctl reboot")
    time.sleep(1)
    wait_for_ssh(hosts, FIRST)

    assert hosts.on_host(FIRST, "systemctl is-system-running --wait").stdout.strip() == "running"
    assert hosts.on_host(FIRST, "cat /etc/machine-id").stdout == identity
    assert len(hosts.on_host(FIRST, "journalctl --list-boots --no-pager -q").stdout.splitlines()) == boots + 1
    assert actions(hosts.play("hosts")) == []


def test_lost_bridge_is_made_anew_without_a_reboot(hosts: ScratchEnvironment) -> None:
    before = supervisor(hosts, FIRST)
    run(["ip", "link", "delete", f"cpq-{hosts.name}"]).check_returncode()

    done = actions(hosts.play("hosts"))

    assert [line for line in done if line.startswith("reconnect")] == [f"reconnect {FIRST}", f"reconnect {SECOND}"]
    assert supervisor(hosts, FIRST) == before
    assert hosts.on_host(FIRST, "true").returncode == 0


def test_frozen_host_is_thawed(hosts: ScratchEnvironment) -> None:
    Path(f"/sys/fs/cgroup/unified/cpq-{hosts.name}-{FIRST}/cgroup.freeze").write_text("1")

    assert actions(hosts.play("hosts")) == [f"thaw {FIRST}"]


def test_drifted_files_are_reported_by_check_mode_and_repaired(hosts: ScratchEnvironment) -> None:
    hosts.on_host(FIRST, "echo '# drift' | tee -a /etc/hosts /etc/resolv.conf /root/.ssh/authorized_keys")

    expected = [f"write etc/hosts, etc/resolv.conf, root/.ssh/authorized_keys on {FIRST}"]
    assert actions(hosts.play("hosts", "--check", "--diff")) == expected
    assert actions(hosts.play("hosts")) == expected
    assert actions(hosts.play("hosts")) == []


def test_host_that_left_the_inventory_is_removed(hosts: ScratchEnvironment) -> None:
    everyone = hosts.hosts
    try:
        hosts.hosts = {FIRST: everyone[FIRST]}
        hosts.write()
        done = actions(hosts.play("hosts"))
        assert f"remove {SECOND}, which the inventory no longer names" in done
        assert not [group for group in hosts.traces()["groups"] if SECOND in group]
    finally:
        hosts.hosts = everyone
        hosts.write()
        assert hosts.play("hosts").returncode == 0


def test_rebuild_gives_a_fresh_disk_and_a_new_identity(hosts: ScratchEnvironment) -> None:
    identity = hosts.on_host(FIRST, "touch /root/kept; cat /etc/machine-id").stdout

    assert hosts.set_up("rebuild").returncode == 0

    assert hosts.on_host(FIRST, "test -e /root/kept").returncode == 1
    assert hosts.on_host(FIRST, "cat /etc/machine-id").stdout not in {"", identity}


def test_down_leaves_nothing_behind(hosts: ScratchEnvironment) -> None:
    # A supervisor that was killed leaves the most behind.
    os.kill(supervisor(hosts, FIRST), signal.SIGKILL)
    assert hosts.on_host(SECOND, "true").returncode == 0
    everyone = hosts.traces()
    assert all(everyone.values()), everyone

    assert hosts.set_up("down").returncode == 0

    assert not any(hosts.traces().values()), hosts.traces()
    assert not hosts.state_directory.exists()
    assert actions(hosts.play("hosts_down")) == []
