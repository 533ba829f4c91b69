"""A host is bounded."""


def test_journal_is_kept_and_bounded(host):
    limits = host.check_output("systemd-analyze cat-config systemd/journald.conf")

    assert "SystemMaxUse=512M" in limits
    assert "MaxRetentionSec=14day" in limits
    assert host.service("systemd-journald").is_running


def test_kernel_settings_are_in_force(host):
    assert host.sysctl("net.core.somaxconn") == 4096
