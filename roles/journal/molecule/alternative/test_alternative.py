"""The receiver proves itself; what is logged while it is away comes when it is back."""

import time
import uuid

REMOTE = "/var/log/journal/remote"
URL = "https://10.56.3.11:19632/upload"


def arrives(host, text, seconds=45):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if text in host.run(f"journalctl --directory={REMOTE} --no-pager --output=cat --since=-5min").stdout:
            return True
        time.sleep(0.5)
    return False


def test_nothing_is_lost_while_the_receiver_is_away(host):
    host.check_output("systemctl stop systemd-journal-remote.socket systemd-journal-remote.service")
    text = f"away-{uuid.uuid4()}"
    try:
        host.check_output(f"logger {text}")
        # More failed starts than systemd would bear by its own default.
        end = time.monotonic() + 40
        while int(host.check_output("systemctl show --property=NRestarts --value systemd-journal-upload.service")) < 6:
            assert time.monotonic() < end, "the sender did not try again"
            time.sleep(0.5)
        assert not arrives(host, text, seconds=0.1)
    finally:
        host.check_output("systemctl start systemd-journal-remote.socket systemd-journal-remote.service")

    assert arrives(host, text)


def test_the_receiver_proves_itself_and_answers_nobody_without_tls(host):
    ask = "curl --silent --show-error --max-time 5 --output /dev/null --request POST "

    assert "certificate" in host.run(f"{ask} {URL}").stderr, "a stranger's authorities do not vouch for it"
    assert host.run(f"{ask} --cacert /etc/cpq-oms/tls/ca.pem {URL}").rc == 0
    assert host.run(f"{ask} {URL.replace('https', 'http')}").rc != 0


def test_the_key_is_read_by_nobody_but_root(host):
    assert host.file("/etc/cpq-oms/tls/journal/key.pem").mode & 0o007 == 0
    assert host.run("runuser -u systemd-journal-remote -- cat /etc/cpq-oms/tls/journal/key.pem").rc != 0


def test_the_disk_is_bounded(host):
    assert "MaxUse=64M" in host.check_output("systemd-analyze cat-config systemd/journal-remote.conf")
