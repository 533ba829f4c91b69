"""Database and cache are told of by users that see figures and no data; their passwords are in no environment and no command line."""

import re

import pytest

PASSWORDS = ("watcherPasswordOfTheTest1", "watcherPasswordOfTheTest2")


@pytest.mark.parametrize(
    ("port", "figure"), [(9201, "node_memory_MemAvailable_bytes"), (9287, "pg_up"), (9221, "redis_up")]
)
def test_each_exporter_sees_what_it_tells_of(host, port, figure):
    page = host.check_output(f"curl --silent --fail --max-time 5 http://10.56.3.11:{port}/metrics")

    found = re.search(rf"^{figure} (\S+)$", page, re.MULTILINE)
    assert found is not None
    assert float(found[1]) >= 1
    assert not any(password in page for password in PASSWORDS)


def test_the_role_sees_what_others_do_and_none_of_their_rows(host):
    ask = "PGPASSWORD=watcherPasswordOfTheTest1 psql -Atq -h 10.56.3.11 -U watcher shop -c "
    host.check_output(
        "runuser -u postgres -- psql -q shop -c 'CREATE TABLE IF NOT EXISTS till (id int); ALTER TABLE till OWNER TO owner'"
    )

    assert host.check_output(ask + "\"SELECT pg_has_role('watcher', 'pg_monitor', 'member')\"") == "t"
    refused = host.run(f"{ask} 'TABLE till'")
    assert "permission denied" in refused.stderr


def test_passwords_are_in_no_environment_and_no_command_line(host):
    for unit in ("prometheus-postgres-exporter", "prometheus-redis-exporter"):
        process = host.check_output(f"systemctl show --property=MainPID --value {unit}.service")
        shown = host.check_output(f"tr '\\0' '\\n' < /proc/{process}/environ; tr '\\0' '\\n' < /proc/{process}/cmdline")
        assert not any(password in shown for password in PASSWORDS)
    assert host.file("/etc/prometheus/credentials").mode == 0o700
