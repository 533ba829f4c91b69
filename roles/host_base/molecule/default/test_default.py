"""A host is bounded and has the platform's places."""


def test_journal_is_kept_and_bounded(host):
    limits = host.check_output("systemd-analyze cat-config systemd/journald.conf")

    assert "SystemMaxUse=512M" in limits
    assert "MaxRetentionSec=14day" in limits
    assert host.service("systemd-journald").is_running


def test_kernel_settings_are_in_force(host):
    assert host.sysctl("net.core.somaxconn") == 4096


def test_time_is_utc(host):
    assert host.check_output("date +%Z") == "UTC"


def test_directories_are_there(host):
    for path in ("/etc/cpq-oms", "/opt/cpq-oms"):
        assert host.file(path).is_directory
        assert (host.file(path).user, oct(host.file(path).mode)) == ("root", "0o755")
