"""Log and backups leave the database's host encrypted, come back as far as a marker, and a drill that finds other rows fails."""

import json

import pytest
import testinfra

TIMED_OUT = 124
ARRIVED = "systemctl start pgbackrest-check.service"
DRILL = "systemctl start restore-drill.service"
MARK = "runuser -u postgres -- python3 -s /usr/local/lib/cpq-oms/recovery_marker.py --now"
CONFIG = "/var/lib/cpq-oms/molecule/ssh_config"


@pytest.fixture(scope="module")
def keeper():
    return testinfra.get_host("ssh://molecule-2", ssh_config=CONFIG)


def sql(host, statement, database="cpq"):
    return host.check_output(
        f"cd / && runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -d {database} -c {json.dumps(statement)}"
    )


def result(keeper):
    return json.loads(keeper.file("/var/lib/restore-drill/result.json").content_string)


def test_first_backup_is_there_and_encrypted(keeper):
    told = json.loads(keeper.check_output("runuser -u pgbackrest -- pgbackrest --stanza=cpq --output=json info"))[0]

    assert [one["type"] for one in told["backup"]] == ["full"]
    assert told["cipher"] == "aes-256-cbc"
    assert keeper.run("grep -rqs 'PG_VERSION' /var/lib/pgbackrest/backup/cpq/*F/backup.manifest").rc == 1


def test_log_arrives(keeper):
    assert keeper.run(ARRIVED).rc == 0


def test_who_is_not_declared_gets_nothing(host):
    # Its own server would let in the backup host only, and the backup host's only for this stanza.
    assert host.run("runuser -u postgres -- pgbackrest --stanza=other info").stdout.count("missing stanza path") == 0
    refused = host.run("timeout 30 runuser -u postgres -- pgbackrest --stanza=other --output=json repo-ls")
    assert refused.rc not in {0, TIMED_OUT}


@pytest.mark.parametrize(
    "unit", ["pgbackrest-full.timer", "pgbackrest-diff.timer", "pgbackrest-incr.timer", "restore-drill.timer"]
)
def test_it_goes_on_by_itself(keeper, unit):
    assert keeper.service(unit).is_enabled
    assert keeper.service(unit).is_running


@pytest.mark.parametrize(
    "unit", ["pgbackrest.service", "pgbackrest-backup@full.service", "backup-figures.service", "restore-drill.service"]
)
def test_its_exposure_is_low(keeper, unit):
    assert keeper.run(f"systemd-analyze security --threshold=20 {unit}").rc == 0


def test_a_restored_database_has_the_rows_of_the_marker_and_another_one_is_noticed(host, keeper):
    sql(
        host,
        "CREATE TABLE IF NOT EXISTS written (n int PRIMARY KEY); INSERT INTO written SELECT coalesce(max(n), 0) + 1 FROM written",
    )
    before = int(sql(host, "SELECT count(*) FROM written"))
    host.check_output(MARK)
    sql(host, "INSERT INTO written SELECT max(n) + 1 FROM written")
    host.check_output("systemctl start recovery-marker.service")
    # It begins a new segment and waits for the one before.
    keeper.check_output(ARRIVED)

    keeper.check_output(DRILL)

    found = result(keeper)
    assert found["passed"], found
    assert found["digest"]["public.written"]["rows"] == before

    sql(
        host,
        "INSERT INTO recovery.marker SELECT name || '-lie', clock_timestamp(), lsn, "
        "jsonb_set(digest::jsonb, '{public.written,rows}', '0') FROM recovery.marker ORDER BY at DESC LIMIT 1",
        "postgres",
    )
    keeper.check_output(ARRIVED)
    assert keeper.run(DRILL).rc != 0
    found = result(keeper)
    assert not found["passed"]
    assert f"public.written: expected 0 rows, found {before}" in found["problem"]
    sql(host, "DELETE FROM recovery.marker WHERE name LIKE '%-lie'", "postgres")


def test_figures_are_told(keeper):
    keeper.check_output("mkdir -p /var/lib/prometheus/node-exporter && systemctl start backup-figures.service")
    page = keeper.file("/var/lib/prometheus/node-exporter/backup.prom").content_string

    assert 'cpq_backup_last_success_timestamp_seconds{type="full"}' in page
    assert "cpq_backup_archive_newest_timestamp_seconds" in page
    assert "cpq_restore_drill_passed" in page


def test_no_passphrase_is_on_the_database_host_or_in_a_journal(host, keeper):
    assert host.run("grep -rqs passphraseOfTheBackupTest1 /etc").rc == 1
    for one in (host, keeper):
        assert one.run("journalctl --no-pager | grep -F passphraseOfTheBackupTest1").rc == 1
