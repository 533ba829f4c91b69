"""postgresql_access: what it would run, and what nobody gets to see."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import load

module = load("postgresql_access", Path(__file__).parents[3] / "roles/postgresql/library")

ROLE = {"name": "clerk", "password": "correct horse", "connection_limit": 3, "settings": {"statement_timeout": "3s"}}
DATABASE = {"name": "shop", "owner": "owner", "connect": ["clerk"]}
SALT = b"0123456789abcdef"


def present(**changes: Any) -> dict[str, Any]:
    verifier = module.verifier(ROLE["password"], SALT, 4096)
    state = {"login": True, "plain": True, "limit": 3, "verifier": verifier, "settings": ["statement_timeout=3s"]}
    return {**state, **changes}


def state(**changes: Any) -> dict[str, Any]:
    return {
        "roles": {"clerk": present(**changes), "postgres": present()},
        "databases": {"shop": {"owner": "owner", "public": False, "connect": ["clerk"]}},
    }


def plan(**changes: Any) -> list[str]:
    return [module.hidden(statement) for statement in module.plan([ROLE], [DATABASE], state(**changes))]


def test_declared_state_asks_for_nothing() -> None:
    assert plan() == []


def test_password_that_was_changed_is_set_and_not_shown() -> None:
    other = module.verifier("another", SALT, 4096)

    assert plan(verifier=other) == ["ALTER ROLE \"clerk\" PASSWORD 'SCRAM-SHA-256$…'"]
    assert "correct horse" not in "".join(module.plan([ROLE], [DATABASE], state(verifier=other)))


def test_verifier_is_the_one_of_rfc_7677() -> None:
    # The exchange of section 3: user "user", password "pencil".
    stored = module.verifier("pencil", module.base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)

    assert stored == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_more_rights_than_declared_are_taken_away() -> None:
    assert plan(plain=False) == [f"ALTER ROLE \"clerk\" {module.ATTRIBUTES} CONNECTION LIMIT 3 VALID UNTIL 'infinity'"]


def test_setting_that_is_not_declared_is_reset() -> None:
    assert plan(settings=["statement_timeout=3s", "work_mem=1GB"]) == ['ALTER ROLE "clerk" RESET "work_mem"']


def test_undeclared_role_loses_its_log_in() -> None:
    present_roles = state()
    present_roles["roles"]["visitor"] = present()

    assert module.plan([ROLE], [DATABASE], present_roles) == ['ALTER ROLE "visitor" NOLOGIN']


def test_database_of_everybody_becomes_one_of_the_declared() -> None:
    everybody = state()
    everybody["databases"]["shop"] = {"owner": "owner", "public": True, "connect": ["visitor"]}

    assert module.plan([ROLE], [DATABASE], everybody) == [
        'REVOKE ALL ON DATABASE "shop" FROM PUBLIC',
        'REVOKE ALL ON DATABASE "shop" FROM "visitor"',
        'GRANT CONNECT ON DATABASE "shop" TO "clerk"',
    ]


def test_names_and_values_are_quoted() -> None:
    hostile = {**ROLE, "name": 'a"; DROP TABLE x', "settings": {"search_path": "it's"}}

    statements = module.role_statements(hostile, None)

    assert statements[0] == 'CREATE ROLE "a""; DROP TABLE x"'
    assert statements[-1].endswith("SET \"search_path\" = 'it''s'")


class Door:
    """A server as seen by who logs in."""

    def __init__(self, answer: str | None) -> None:
        self._answer = answer

    def log_in(self, *_: str) -> None:
        if self._answer is not None:
            raise module.ServerError(self._answer)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('FATAL:  password authentication failed for user "cpq_api"', None),
        (None, "cpq_api still logs in with its former password"),
        ("connection refused", "connection refused"),
    ],
)
def test_a_former_password_must_be_refused_for_being_wrong(answer: str | None, problem: str | None) -> None:
    databases = [{"name": "cpq", "owner": "cpq_owner", "connect": ["cpq_api"]}]
    refused = pytest.raises(module.ServerError, match=problem) if problem else nullcontext()

    with refused:
        module.prove_refusals(Door(answer), "db", {"cpq_api": "former"}, databases)
