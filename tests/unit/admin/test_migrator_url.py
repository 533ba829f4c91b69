"""The migrations' library is told of every host of the database, and of the owner's password as it is."""

from __future__ import annotations

from pathlib import Path

from yoyo.connections import parse_uri

from app.adapters.postgres.migrations import Migrator

PASSWORD = "p@ss/wo:rd"


def arguments(url: str) -> tuple[str, str, str, dict[str, str]]:
    parsed = parse_uri(Migrator(url, PASSWORD, Path("migrations"), "test/1")._yoyo_url)
    assert parsed.hostname is None
    assert parsed.port is None
    return parsed.username, parsed.password, parsed.database, parsed.args


def test_several_hosts_reach_the_driver_with_what_goes_with_them() -> None:
    url = "postgresql://cpq_owner@10.0.0.1:5432,10.0.0.2:5433/cpq?target_session_attrs=primary&sslmode=verify-full"

    assert arguments(url) == (
        "cpq_owner",
        PASSWORD,
        "cpq",
        {
            "host": "10.0.0.1,10.0.0.2",
            "port": "5432,5433",
            "target_session_attrs": "primary",
            "sslmode": "verify-full",
            "schema": "cpq",
            "application_name": "test/1",
            "connect_timeout": "5",
        },
    )


def test_one_host_is_told_in_the_same_way() -> None:
    *_, told = arguments("postgresql://cpq_owner@10.0.0.1:5432/cpq")

    assert (told["host"], told["port"]) == ("10.0.0.1", "5432")
