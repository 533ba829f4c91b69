"""The limits of this host are its own, and so are its packages and kernel settings."""


def test_journal_holds_to_the_limits_of_this_host(host):
    limits = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    # The journal says what it took for its limit when it started.
    own_word = host.check_output(
        "journalctl --boot --no-pager -o cat -u systemd-journald | grep 'System Journal' | tail -n1"
    )

    assert "MaxRetentionSec=3day" in limits
    assert "max 64M" in own_word


def test_kernel_settings_are_in_force(host):
    assert host.sysctl("net.core.somaxconn") == 2048
    assert host.check_output("sysctl --values net.ipv4.ip_local_port_range").split() == ["20000", "60999"]


def test_package_of_this_host_works(host):
    assert "/opt/cpq-oms" in host.check_output("tree -dfi /opt")
