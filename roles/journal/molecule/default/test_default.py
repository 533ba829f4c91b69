"""What a host logs is found in the receiver's journals within seconds, by whoever may read journals."""

import time
import uuid

REMOTE = "/var/log/journal/remote"


def arrives(host, text, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if text in host.run(f"journalctl --directory={REMOTE} --no-pager --output=cat --since=-5min").stdout:
            return True
        time.sleep(0.5)
    return False


def test_a_line_arrives(host):
    text = f"sent-{uuid.uuid4()}"
    host.check_output(f"logger {text}")

    assert arrives(host, text)


def test_members_of_the_journals_group_read_it(host):
    text = f"read-{uuid.uuid4()}"
    host.check_output(f"logger {text}")
    assert arrives(host, text)

    assert text in host.check_output(
        "setpriv --reuid=nobody --regid=nogroup --groups=systemd-journal journalctl --merge --no-pager --output=cat "
        f"--directory={REMOTE} --since=-5min --grep={text}"
    )
    assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups ls {REMOTE}/*.journal").rc != 0 or (
        host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups cat {REMOTE}/*.journal").rc != 0
    )


def test_the_disk_is_bounded(host):
    assert "MaxUse=2G" in host.check_output("systemd-analyze cat-config systemd/journal-remote.conf")
