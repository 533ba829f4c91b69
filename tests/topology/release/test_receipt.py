"""The roles of a site look at a host again when anything of what they left there differs, and only then."""

from __future__ import annotations

from tests.topology.release.conftest import Environment, Run
from tests.topology.release.test_drift import psql

LEFT_OUT = "Leave out the roles, for nothing differs"
SETTINGS = "/etc/redis/redis.conf"
LIMITS = "/etc/systemd/journald.conf.d/50-limits.conf"
EXPORTER = "prometheus-node-exporter.service"
CONNECTIONS = psql("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'cpq_api'")


def site(environment: Environment) -> Run:
    run = environment.release(playbooks=("playbooks/site.yml",))
    assert run.code == 0, run.output
    return run


def test_roles_are_left_out_until_a_host_is_altered_and_repair_it_then(environment: Environment) -> None:
    site(environment)
    again = site(environment)
    assert LEFT_OUT in again.output
    assert "host_base :" not in again.output
    assert again.changed == 0
    declared = environment.host.run(f"sha256sum {SETTINGS} {LIMITS}").stdout
    environment.host.run(f"echo '# altered' >> {LIMITS}; chmod 0644 {SETTINGS}; systemctl stop {EXPORTER}")

    repaired = site(environment)

    assert f"3 differ: {SETTINGS}, {LIMITS}, unit {EXPORTER}" in repaired.output
    assert repaired.changed > 0
    assert environment.host.run(f"sha256sum {SETTINGS} {LIMITS}").stdout == declared
    assert environment.host.run(f"stat --format=%a {SETTINGS}").stdout.strip() == "640"
    assert environment.host.run(f"systemctl is-active {EXPORTER}").stdout.strip() == "active"
    assert LEFT_OUT in site(environment).output


def test_what_the_database_keeps_itself_is_held_to_the_declared_while_roles_are_left_out(
    environment: Environment,
) -> None:
    site(environment)
    declared = environment.host.run(CONNECTIONS).stdout
    environment.host.run(psql("ALTER ROLE cpq_api CONNECTION LIMIT 7"))

    run = site(environment)

    assert LEFT_OUT in run.output
    assert run.changed == 1
    assert environment.host.run(CONNECTIONS).stdout == declared != "7\n"
