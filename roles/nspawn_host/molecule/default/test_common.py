"""The host is a machine like any other: systemd as PID 1, its own name and address, a journal, and no way in for a forger."""

import subprocess


def test_systemd_runs_and_nothing_failed(host):
    state = host.run("systemctl is-system-running --wait")

    assert state.stdout.strip() == "running", host.run("systemctl --failed --no-pager").stdout
    assert host.file("/proc/1/comm").content_string.strip() == "systemd"


def test_host_has_its_name_its_address_and_an_identity_of_its_own(host, name, address):
    assert host.check_output("hostname") == name
    assert address in host.interface("host0").addresses
    assert len(host.file("/etc/machine-id").content_string.strip()) == 32


def test_journal_outlives_a_boot(host):
    assert host.file(f"/var/log/journal/{host.file('/etc/machine-id').content_string.strip()}").is_directory


def test_ssh_refuses_a_machine_that_only_claims_to_be_the_host(tmp_path, ssh, name, address):
    key = tmp_path / "another_hosts_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    forged = tmp_path / "known_hosts"
    forged.write_text(f"{address},{name} {' '.join(key.with_suffix('.pub').read_text().split()[:2])}\n")

    options = ["-o", f"UserKnownHostsFile={forged}", "-o", "ControlPath=none", "-o", "ConnectTimeout=5"]
    refused = subprocess.run([*ssh, *options, name, "true"], check=False, capture_output=True, text=True)

    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
