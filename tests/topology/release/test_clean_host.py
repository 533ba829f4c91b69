"""What a release would do to a host that has nothing yet can be asked for, and nothing is done."""

from __future__ import annotations

from tests.support.scratch_environment import LOCAL, ScratchEnvironment

HOST = "scratch-1"
# What the host's own tools say of everything that a release would bring.
LOOK = (
    "ls -A /opt /usr/local/bin /etc/systemd/system; ls -d /etc/cpq-oms; systemctl list-units --all 'cpq-oms*'; "
    "dpkg-query --show | sha256sum; getent passwd | sha256sum; ss --listening --tcp --numeric"
)


def test_check_mode_on_a_clean_host_succeeds_and_changes_nothing(scratch: ScratchEnvironment) -> None:
    assert scratch.set_up("hosts").returncode == 0
    topology = (LOCAL.parent / "hosts.yml").read_text()
    (scratch.inventory / "hosts.yml").write_text(
        topology.replace("local-1", HOST).replace("10.56.1.11", scratch.hosts[HOST])
    )
    before = scratch.on_host(HOST, LOOK).stdout

    done = scratch.play("release", "--check", "--diff")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "would run, once cpq-oms-admin is installed here: release precheck" in done.stdout
    assert "+++ after: /etc/systemd/system/cpq-oms-api.service" in done.stdout
    assert scratch.on_host(HOST, LOOK).stdout == before
