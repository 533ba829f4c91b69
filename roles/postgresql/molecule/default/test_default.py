"""Roles log in with their passwords from their network, and nobody else gets in."""

import psycopg
import pytest

UNIT = "postgresql@17-cpq.service"
ADDRESS = "10.56.3.11"


def connect(user, password, database="shop"):
    return psycopg.connect(host=ADDRESS, user=user, password=password, dbname=database, connect_timeout=5)


def test_server_runs_and_starts_with_the_host(host):
    service = host.service(UNIT)

    assert service.is_running, host.check_output(f"journalctl --no-pager --lines=40 --unit={UNIT}")
    assert service.is_enabled


def test_role_logs_in_with_its_limits():
    with connect("shop_clerk", "clerkPasswordOfTheTest1") as connection:
        row = connection.execute("SELECT current_user, current_setting('statement_timeout')").fetchone()

    assert row == ("shop_clerk", "3s")


@pytest.mark.parametrize(
    ("user", "password", "database", "reason"),
    [
        ("shop_clerk", "wrong", "shop", "password authentication failed"),
        ("outsider", "outsiderPasswordOfTheTest1", "shop", "no pg_hba.conf entry"),
        ("shop_clerk", "clerkPasswordOfTheTest1", "postgres", "no pg_hba.conf entry"),
        ("postgres", "any", "shop", "no pg_hba.conf entry"),
    ],
)
def test_nobody_else_gets_in(user, password, database, reason):
    with pytest.raises(psycopg.OperationalError, match=reason):
        connect(user, password, database)


def test_owner_makes_objects_and_others_do_not():
    with connect("shop_owner", "ownerPasswordOfTheTest1") as connection:
        connection.execute("CREATE SCHEMA probe")
        connection.rollback()
    with (
        connect("shop_clerk", "clerkPasswordOfTheTest1") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE SCHEMA probe")


def test_pages_have_checksums_and_verifiers_are_scram(host):
    answer = host.check_output(
        "cd / && runuser -u postgres -- psql -XqAt -c \"SELECT current_setting('data_checksums'), "
        "bool_and(rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid WHERE rolcanlogin AND rolname <> 'postgres'\""
    )

    assert answer == "on|t"


def test_no_password_is_in_the_journal(host):
    assert host.run("journalctl --no-pager | grep -F PasswordOfTheTest1").rc == 1
