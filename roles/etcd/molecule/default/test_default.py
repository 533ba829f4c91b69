"""A member alone keeps what it is told, starts with the host, and is confined."""

import pytest

UNIT = "etcd.service"


def test_member_runs_and_starts_with_the_host(host):
    service = host.service(UNIT)

    assert service.is_running, host.check_output(f"journalctl --no-pager --lines=40 --unit={UNIT}")
    assert service.is_enabled


def test_it_keeps_what_it_is_told(host):
    host.check_output("etcdctl put /probe kept")

    assert host.check_output("etcdctl get --print-value-only /probe") == "kept"


@pytest.mark.parametrize(("name", "value"), [("ProtectSystem", "strict"), ("NoNewPrivileges", "yes"), ("User", "etcd")])
def test_it_is_confined(host, name, value):
    assert host.check_output(f"systemctl show --property={name} --value {UNIT}") == value


def test_its_exposure_is_low(host):
    assert host.run(f"systemd-analyze security --threshold=20 {UNIT}").rc == 0
