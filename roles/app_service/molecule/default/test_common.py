"""The unit runs its release with its settings, in its sandbox, and starts with the host."""

import json

UNIT = "cpq-oms-simulator.service"


def test_unit_runs_and_starts_with_the_host(host):
    service = host.service(UNIT)

    assert service.is_running, host.check_output(f"journalctl --no-pager --lines=40 --unit={UNIT}")
    assert service.is_enabled
    assert host.service("cpq-oms.target").is_running
    assert host.service("cpq-oms.target").is_enabled


def test_it_serves_with_the_secret_it_was_given(host, issuer):
    form = "grant_type=client_credentials&client_id=c&tenant=acme&scope=quote:read"

    assert "access_token" in host.check_output(f"curl -s -d '{form}&client_secret=secretOfTheTest1' {issuer}/token")
    assert "invalid_client" in host.check_output(f"curl -s -d '{form}&client_secret=wrong' {issuer}/token")


def test_its_process_is_of_the_current_release(host, root):
    release = host.check_output(f"readlink -f {root}/simulator/current")
    pid = host.service(UNIT).systemd_properties["MainPID"]

    assert release.startswith(f"{root}/simulator/releases/")
    assert host.check_output(f"tr '\\0' ' ' < /proc/{pid}/cmdline").startswith(f"{release}/bin/")


def test_it_is_locked_in(host):
    properties = host.service(UNIT).systemd_properties

    assert properties["DynamicUser"] == "yes"
    assert properties["ProtectSystem"] == "strict"
    assert properties["ProtectHome"] == "yes"
    assert properties["MemoryDenyWriteExecute"] == "yes"
    assert properties["NoNewPrivileges"] == "yes"
    assert properties["PrivateUsers"] == "yes"


def test_secrets_are_credentials_of_root_alone(host):
    folder = host.file("/etc/cpq-oms/credentials/simulator")
    token = host.file("/etc/cpq-oms/credentials/simulator/billing-token")

    assert (folder.user, folder.mode) == ("root", 0o700)
    assert (token.user, token.mode, token.content_string) == ("root", 0o600, "tokenOfTheTest2")
    assert "OfTheTest" not in host.file("/etc/cpq-oms/simulator.env").content_string


def test_journal_is_json(host):
    lines = host.check_output(f"journalctl --no-pager -o cat -u {UNIT} _COMM=cpq-oms-simulat").splitlines()

    assert "ready" in [json.loads(line)["event"] for line in lines]


def test_no_secret_is_in_the_hosts_journal(host):
    assert "OfTheTest" not in host.check_output("journalctl --no-pager")
