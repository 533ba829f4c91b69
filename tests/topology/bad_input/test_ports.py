"""A port that somebody else has stops the set-up before anything is installed on the host."""

from __future__ import annotations

from tests.support.scratch_environment import ScratchEnvironment

GROUPED = """
all:
  hosts:
    scratch-1: {ansible_host: 10.56.4.11}
  children:
    redis: {hosts: {scratch-1: }}
    api: {hosts: {scratch-1: }}
"""


def test_taken_ports_are_named_with_who_has_them(scratch: ScratchEnvironment) -> None:
    assert scratch.play("hosts").returncode == 0
    (scratch.inventory / "hosts.yml").write_text(GROUPED)
    assert scratch.play("ports").returncode == 0
    # Another service's port, one of our own units', and one that no service of this host wants.
    for port in (6379, 8080, 5432):
        scratch.on_host("scratch-1", f"systemd-run --unit=squatter-{port} python3 -m http.server {port}")
        scratch.on_host("scratch-1", f"timeout 10 sh -c 'until ss -lnt | grep -q :{port}; do sleep 0.1; done'")

    done = scratch.play("ports")

    reasons = [line for line in done.stdout.splitlines() if line.strip().startswith("reason")]
    assert done.returncode != 0
    assert len(reasons) == 1
    assert "port 6379 is taken by python3 (pid " in reasons[0]
    assert "squatter-6379.service) and redis-server.service needs it; stop that process" in reasons[0]
    assert "squatter-8080.service) and cpq-oms-api*.service needs it" in reasons[0]
    assert "5432" not in reasons[0]
