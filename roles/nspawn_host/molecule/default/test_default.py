"""The host is a machine like any other: systemd as PID 1, its own address, a way in, and the world outside."""

import subprocess
from pathlib import Path

STATE = Path("/var/lib/cpq-oms/molecule")


def test_systemd_runs_and_nothing_failed(host):
    state = host.run("systemctl is-system-running --wait")

    assert state.stdout.strip() == "running", host.run("systemctl --failed --no-pager").stdout
    assert host.file("/proc/1/comm").content_string.strip() == "systemd"


def test_host_has_its_name_its_address_and_an_identity_of_its_own(host):
    assert host.check_output("hostname") == "molecule-1"
    assert "10.56.3.11" in host.interface("host0").addresses
    assert len(host.file("/etc/machine-id").content_string.strip()) == 32


def test_journal_outlives_a_boot(host):
    assert host.file(f"/var/log/journal/{host.file('/etc/machine-id').content_string.strip()}").is_directory


def test_services_are_there_and_off(host):
    for package in ("postgresql-17", "redis-server", "openjdk-21-jre-headless"):
        assert host.package(package).is_installed
    for unit in ("postgresql", "redis-server"):
        assert not host.service(unit).is_running
        assert not host.service(unit).is_enabled
    assert host.check_output("ls /var/lib/postgresql/17 2>/dev/null | wc -l") == "0", "the package made a cluster"


def test_package_lists_are_there_for_check_mode(host):
    assert host.run("apt-cache show nginx").rc == 0


def test_host_reaches_the_package_registry(host):
    assert host.run("apt-get update -q").rc == 0


def test_ssh_refuses_a_machine_that_only_claims_to_be_the_host(tmp_path):
    key = tmp_path / "another_hosts_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    forged = tmp_path / "known_hosts"
    forged.write_text(f"10.56.3.11,molecule-1 {' '.join(key.with_suffix('.pub').read_text().split()[:2])}\n")

    options = ["-o", f"UserKnownHostsFile={forged}", "-o", "ControlPath=none", "-o", "ConnectTimeout=5"]
    refused = subprocess.run(
        ["ssh", "-F", str(STATE / "ssh_config"), *options, "molecule-1", "true"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
