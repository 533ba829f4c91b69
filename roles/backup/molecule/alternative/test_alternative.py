"""Another stanza, port and server; the log of a declared table's marker is in the repository."""

import json

import pytest
import testinfra

CONFIG = "/var/lib/cpq-oms/molecule/ssh_config"
PGBACKREST = "runuser -u pgbackrest -- pgbackrest --stanza=shop"


@pytest.fixture(scope="module")
def keeper():
    return testinfra.get_host("ssh://molecule-2", ssh_config=CONFIG)


def sql(host, statement, database="shop"):
    return host.check_output(
        f"cd / && runuser -u postgres -- psql -XqAt -p 15432 -v ON_ERROR_STOP=1 -d {database} -c {json.dumps(statement)}"
    )


def test_servers_answer_at_their_port(host, keeper):
    for one, address in ((host, "10.56.3.11"), (keeper, "10.56.3.12")):
        assert one.run(f"pgbackrest --tls-server-port=18432 server-ping {address}").rc == 0


def test_a_marker_is_in_the_log_that_the_repository_has(host, keeper):
    sql(host, "CREATE TABLE IF NOT EXISTS sold (n int PRIMARY KEY)")
    host.check_output("runuser -u postgres -- python3 -s /usr/local/lib/cpq-oms/recovery_marker.py --now")
    segment = sql(host, "SELECT pg_walfile_name(lsn) FROM recovery.marker ORDER BY at DESC LIMIT 1", "postgres")
    sql(host, "SELECT pg_switch_wal()")

    assert keeper.run(f"{PGBACKREST} check").rc == 0
    assert segment in keeper.check_output(f"{PGBACKREST} repo-ls --recurse archive")


def test_what_is_older_than_declared_goes(keeper):
    assert "repo1-retention-full=3" in keeper.file("/etc/pgbackrest/pgbackrest.conf").content_string
    assert keeper.run(f"{PGBACKREST} expire").rc == 0


def test_programs_are_told_what_is_declared(host):
    told = json.loads(host.file("/etc/cpq-oms/recovery.json").content_string)

    assert told == {
        "database": "shop",
        "port": 15432,
        "recovery_point_seconds": 120,
        "recovery_time_seconds": 600,
        "stanza": "shop",
        "tables": ["public.sold"],
        "version": "17",
    }
