"""A server that nobody talks to without TLS, with today's passwords and rights alone, sized by its host."""

import re

import psycopg
import pytest

CLERK = {"user": "shop_clerk", "password": "clerkPasswordOfTheTest1", "dbname": "shop"}


@pytest.fixture(scope="module")
def roots(tmp_path_factory, host):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_text(host.file("/etc/cpq-oms/tls/ca.pem").content_string)
    return str(path)


def connect(roots=None, **who):
    tls = {"sslmode": "verify-full", "sslrootcert": roots} if roots else {"sslmode": "disable"}
    return psycopg.connect(host="10.56.3.11", port=5433, connect_timeout=5, **{**CLERK, **who, **tls})


def test_a_client_that_trusts_the_root_is_served_with_tls(roots):
    with connect(roots) as connection:
        row = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()

    assert row is not None
    assert row[0] is True
    assert row[1] in {"TLSv1.2", "TLSv1.3"}


def test_without_tls_nobody_is_served():
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        connect()


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({"password": "formerClerkPasswordOfTheTest1"}, "password authentication failed"),
        ({"dbname": "stock"}, "no pg_hba.conf entry"),
    ],
    ids=["former-password", "another-database"],
)
def test_what_is_declared_no_more_or_never_was_is_refused(roots, who, reason):
    with pytest.raises(psycopg.OperationalError, match=reason):
        connect(roots, **who)


def test_a_role_has_its_present_limits_and_no_former_ones(roots):
    with connect(roots) as connection, connect(roots):
        limits = connection.execute(
            "SELECT current_setting('statement_timeout'), current_setting('work_mem') <> '8MB'"
        ).fetchone()
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            connect(roots)

    assert limits == ("3s", True)


def test_it_is_sized_by_its_host_and_takes_further_settings(roots, host):
    memory = int(re.search(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string).group(1)) // 1024
    with connect(roots) as connection:
        sizes = dict(
            connection.execute(
                "SELECT name, setting::bigint * CASE unit WHEN '8kB' THEN 8192 ELSE 1 END FROM pg_settings "
                "WHERE name IN ('shared_buffers', 'max_connections', 'log_min_duration_statement')"
            ).fetchall()
        )

    assert sizes["max_connections"] == 40
    assert sizes["log_min_duration_statement"] == 250
    # A quarter of what the server may plan with.
    assert sizes["shared_buffers"] // 2**20 == pytest.approx(memory * 2 // 100 // 4, abs=2)
