"""Who listens on a port is told although descriptors and processes come and go while they are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ansible_modules import load

PORT, INODE = 9092, "4711"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A broker that listens, and has a descriptor that is gone when it is read; its neighbour ended."""
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    line = f"   0: 00000000:{PORT:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {INODE} 1"
    (tmp_path / "net/tcp").write_text(f"{head}\n{line}\n")
    broker = tmp_path / "70"
    (broker / "fd").mkdir(parents=True)
    # What is no link any more cannot be read, as a descriptor that was closed meanwhile.
    (broker / "fd/1").write_text("")
    (broker / "fd/2").symlink_to(f"socket:[{INODE}]")
    (broker / "cgroup").write_text("0::/system.slice/kafka.service\n")
    (tmp_path / "71").mkdir()
    return tmp_path


def test_a_descriptor_that_was_closed_meanwhile_hides_none_of_the_others(proc: Path) -> None:
    module = load("port_owner")

    sockets = module.listeners(proc)
    found = module.owners(proc, sockets)

    assert sockets == {INODE: PORT}
    assert found == {PORT: [proc / "70"]}
    assert module.unit_of(proc / "70") == "kafka.service"
