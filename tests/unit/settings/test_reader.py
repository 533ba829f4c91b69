from __future__ import annotations

import io
import os
from pathlib import Path

import httpx
import pytest

from app.runtime.logging import configure, get_logger
from app.settings.api import ApiSettings
from app.settings.reader import EXIT_CONFIG, SettingsError, check, read, take_environment
from app.settings.shared import TENANT_MODES_TO_COME
from app.settings.units import UNITS

VALID = {
    "APP_ENV": "local",
    "APP_INSTANCE_ID": "api-1",
    "TENANT_MODE": "multi",
    "OTLP_ENDPOINT": "",
    "TLS_CA_FILE": "",
    "LOG_LEVEL": "INFO",
    "METRICS_BIND": "127.0.0.1:9100",
    "HTTP_BIND": "0.0.0.0:8080",
    "API_WORKERS": "2",
    "API_HOSTS": "3",
    "DB_URL": "postgresql://cpq_api@db.test:5432/cpq",
    "DB_POOL_MAX": "10",
    "DB_READ_URL": "",
    "DB_READ_POOL_MAX": "4",
    "DB_STATEMENT_TIMEOUT": "PT5S",
    "REDIS_URL": "redis://api@redis.test:6379/0",
    "AUTH_ISSUER": "https://issuer.test",
    "AUTH_AUDIENCE": "cpq-oms",
    "AUTH_JWKS_URL": "https://issuer.test/jwks.json",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-1.test:9092,[::1]:9093",
    "CAMUNDA_GRPC_ADDRESS": "zeebe.test:26500",
}
SECRET = "canary-7f3a"


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    for name in ("db-password", "redis-password"):
        (tmp_path / name).write_text(SECRET + "\n")
    return tmp_path


def problems(environ: dict[str, str], credentials: Path | None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(ApiSettings, environ, credentials)
    return caught.value.problems


def test_a_valid_environment_is_read(credentials: Path) -> None:
    settings = read(ApiSettings, VALID, credentials)

    assert settings.db_statement_timeout.total_seconds() == 5
    assert settings.processes == 6
    assert [str(address) for address in settings.kafka_bootstrap_servers] == ["kafka-1.test:9092", "[::1]:9093"]
    assert settings.db_password.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


def test_a_secret_that_is_being_rotated_has_a_former_one(credentials: Path) -> None:
    (credentials / "db-password").write_text("the new one\nthe former one\n")
    settings = read(ApiSettings, VALID, credentials)

    assert settings.db_password.get_secret_value() == "the new one"
    assert settings.db_password.accepted == ("the new one", "the former one")
    assert settings.redis_password.accepted == (SECRET,)
    assert (settings.db_password.other, settings.redis_password.other) == ("the former one", None)
    assert "one" not in repr(settings.db_password)


@pytest.mark.parametrize("name", sorted(VALID))
def test_a_missing_variable_is_named(name: str, credentials: Path) -> None:
    environ = {key: value for key, value in VALID.items() if key != name}

    (problem,) = problems(environ, credentials)
    assert problem.startswith(f"{name}: missing; expected ")


def test_a_misspelt_variable_is_named_with_the_right_one(credentials: Path) -> None:
    environ = {("DB_ULR" if key == "DB_URL" else key): value for key, value in VALID.items()}

    assert problems(environ, credentials) == [
        "DB_URL: missing; expected PostgreSQL URL without a password, of one or more hosts",
        "DB_ULR: unknown, no setting of this unit; did you mean DB_URL?",
    ]


@pytest.mark.parametrize("name", ["WORKER_GROUP", "REDIS_PASSWORDS", "DBURL", "LOG_LEVLE"])
def test_a_variable_of_ours_that_is_no_setting_of_the_unit_is_refused(name: str, credentials: Path) -> None:
    (problem,) = problems(VALID | {name: "x"}, credentials)

    assert problem.startswith(f"{name}: unknown, no setting of this unit")


@pytest.mark.parametrize("name", ["PATH", "LANG", "HOME", "INVOCATION_ID", "JOURNAL_STREAM", "HTTP_PROXY", "LOGNAME"])
def test_the_machines_own_variables_are_left_alone(name: str, credentials: Path) -> None:
    assert read(ApiSettings, VALID | {name: "x"}, credentials)


def test_a_secret_in_a_variable_is_refused_and_not_repeated(credentials: Path) -> None:
    (problem,) = problems(VALID | {"DB_PASSWORD": SECRET}, credentials)

    assert problem == "DB_PASSWORD: a secret is a credential file (db-password), never a variable"


def test_a_problem_names_variable_value_class_and_rule_and_never_the_value(credentials: Path) -> None:
    (problem,) = problems(VALID | {"API_WORKERS": SECRET}, credentials)

    assert problem == (
        "API_WORKERS: whole number from 1 to 64: Input should be a valid integer, unable to parse string as an integer; "
        "given: text of 11 characters"
    )


def test_a_secret_shows_nowhere(credentials: Path) -> None:
    settings = read(ApiSettings, VALID, credentials)
    stream = io.StringIO()
    configure("INFO", "api", "tests", stream=stream)
    get_logger("tests").info(
        "started", settings=settings, credential=settings.db_password, found=[settings.db_password]
    )
    shown = [repr(settings), str(settings), f"{settings}", str(settings.model_dump()), settings.model_dump_json()]

    assert not [text for text in [*shown, stream.getvalue()] if SECRET in text]


@pytest.mark.parametrize("mode", TENANT_MODES_TO_COME)
def test_a_tenant_mode_to_come_is_refused_as_known(mode: str, credentials: Path) -> None:
    (problem,) = problems(VALID | {"TENANT_MODE": mode}, credentials)

    assert f"{mode} is known and not implemented; this release serves multi only" in problem


def test_an_unknown_tenant_mode_is_told_which_are_known(credentials: Path) -> None:
    (problem,) = problems(VALID | {"TENANT_MODE": "shared"}, credentials)

    assert "expected multi; known and not implemented: schema-per-tenant, dedicated, hybrid" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_WORKERS", "many"),
        ("API_WORKERS", "0"),
        ("DB_STATEMENT_TIMEOUT", "5"),
        ("DB_STATEMENT_TIMEOUT", "PT0S"),
        ("DB_STATEMENT_TIMEOUT", "-PT5S"),
        ("METRICS_BIND", "9100"),
        ("METRICS_BIND", "127.0.0.1:0"),
        ("METRICS_BIND", "127.0.0.1:70000"),
        ("DB_URL", "mysql://h/x"),
        ("REDIS_URL", "redis://:secret@h/0"),
        ("AUTH_JWKS_URL", "ftp://x"),
        ("LOG_LEVEL", "LOUD"),
        ("TENANT_MODE", "single"),
        ("APP_ENV", "No Such"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
        ("DB_STATEMENT_TIMEOUT", "P9999D"),
        ("DB_STATEMENT_TIMEOUT", "PT10M0.001S"),
        ("DB_URL", "postgresql://u@h:port/x"),
        ("DB_URL", "postgresql://u@h1:5432,h2:70000/x"),
        ("DB_URL", "postgresql://u@h1:5432,/x"),
        ("DB_URL", "postgresql://u@h/x?"),
        ("DB_URL", "postgresql://u@h/x?password=a"),
        ("DB_URL", "postgresql://u@h/x?host=elsewhere"),
        ("DB_URL", "postgresql://u@h/x?sslmode=require"),
        ("DB_URL", "postgresql://u@h/x?sslmode=verify-full&sslmode=verify-full"),
        ("DB_URL", "postgresql://u@h/x?target_session_attrs=any"),
        ("DB_URL", "postgresql://u@h/x?sslrootcert=ca.pem"),
        ("DB_URL", "postgresql://u@h/x#y"),
        ("DB_URL", "postgresql://u@h1,h2/x?target_session_attrs=prefer-standby"),
        ("DB_READ_URL", "postgresql://u@h1,h2/x?target_session_attrs=primary"),
        ("DB_READ_URL", "postgresql://u@h/x"),
        ("DB_READ_URL", "postgresql://u@h1,/x?target_session_attrs=prefer-standby"),
        ("DB_READ_URL", "postgresql://u:secret@h/x?target_session_attrs=prefer-standby"),
        ("REDIS_URL", "redis://u@h:99999/0"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(name: str, value: str, credentials: Path) -> None:
    (problem,) = problems(VALID | {name: value}, credentials)

    assert problem.startswith(f"{name}: ")


def test_a_database_of_several_hosts_is_reached_by_its_primary_and_trusted_by_its_authority(credentials: Path) -> None:
    url = (
        "postgresql://u@h1:5432,h2:5432/x?target_session_attrs=primary&sslmode=verify-full&sslrootcert=/etc/tls/ca.pem"
    )

    assert read(ApiSettings, VALID | {"DB_URL": url}, credentials).db_url == url


def test_queries_find_a_standby_by_the_same_hosts_and_trust(credentials: Path) -> None:
    url = "postgresql://u@h1:5432,h2:5432/x?target_session_attrs=prefer-standby&sslmode=verify-full&sslrootcert=/etc/tls/ca.pem"

    assert read(ApiSettings, VALID | {"DB_READ_URL": url}, credentials).db_read_url == url


def test_only_units_that_answer_queries_know_of_a_standby() -> None:
    knowing = {unit for unit, model in UNITS.items() if any("read_url" in name for name in model.model_fields)}

    assert knowing == {"api", "console"}


def test_all_problems_are_told_at_once() -> None:
    environ = {key: value for key, value in VALID.items() if key != "DB_URL"} | {"API_WORKERS": "x"}

    found = problems(environ, None)

    assert {problem.split(":")[0] for problem in found} == {
        "DB_URL",
        "credential db-password",
        "credential redis-password",
        "API_WORKERS",
    }


def test_a_credential_that_is_missing_or_empty_is_named(credentials: Path) -> None:
    (credentials / "db-password").unlink()
    (credentials / "redis-password").write_text("\n")

    assert problems(VALID, credentials) == [
        "credential db-password: unreadable (FileNotFoundError)",
        "credential redis-password: empty",
    ]


@pytest.mark.parametrize("hosts", ["h", "h1:5432,h2:5432"])
def test_a_password_in_a_url_is_refused_and_not_repeated(hosts: str, credentials: Path) -> None:
    (problem,) = problems(VALID | {"DB_URL": f"postgresql://api:{SECRET}@{hosts}/cpq"}, credentials)

    assert "expected no password in the URL: it is a credential" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    "value",
    [
        f"https://{SECRET}@issuer.test/jwks.json",
        f"https://user:{SECRET}@issuer.test",
        f"https://issuer.test/jwks.json?key={SECRET}",
        f"https://issuer.test/jwks.json#{SECRET}",
        f"https://issuer.test:{SECRET}",
        f"https://issuer.test:{SECRET}@issuer.test",
        f"https://[{SECRET}]/jwks.json",
        f"https://[{SECRET}",
        f"https://issuer.test /{SECRET}",
        f"https://issuer.test\n{SECRET}",
        f"https://issuer\u2100.test/{SECRET}",
        f"https://10.0.0.999/{SECRET}",
        f"https://issuer.test:70000/{SECRET}",
        f"https://issuer.test:0/{SECRET}",
    ],
)
def test_a_url_with_a_secret_or_a_bad_port_is_refused_and_not_repeated(value: str, credentials: Path) -> None:
    (problem,) = problems(VALID | {"AUTH_JWKS_URL": value}, credentials)

    assert problem.startswith("AUTH_JWKS_URL: http or https URL without user, password, query or fragment: expected")
    assert SECRET not in problem


@pytest.mark.parametrize(
    "value", ["http://10.0.0.1:8090/crm/", "https://[::1]:8443", "https://crm.test", "http://h/a@b"]
)
def test_a_url_that_is_taken_is_one_that_calls_can_be_made_to(value: str, credentials: Path) -> None:
    settings = read(ApiSettings, VALID | {"AUTH_JWKS_URL": value}, credentials)

    assert httpx.URL(settings.auth_jwks_url).host


def test_the_two_listeners_must_differ(credentials: Path) -> None:
    (problem,) = problems(VALID | {"METRICS_BIND": "127.0.0.1:8080"}, credentials)

    assert "HTTP_BIND and METRICS_BIND" in problem


def test_check_config_prints_one_line_each_and_exits_with_78(credentials: Path) -> None:
    output = io.StringIO()

    status = check(ApiSettings, {"CREDENTIALS_DIRECTORY": str(credentials)}, output)

    assert status == EXIT_CONFIG
    assert len(output.getvalue().splitlines()) == len(VALID)


def test_check_config_is_silent_when_all_is_well(credentials: Path) -> None:
    output = io.StringIO()

    assert check(ApiSettings, VALID | {"CREDENTIALS_DIRECTORY": str(credentials)}, output) == 0
    assert output.getvalue() == ""


def test_the_service_managers_variables_are_taken_out_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")

    environ = take_environment()

    assert environ["NOTIFY_SOCKET"] == "/run/notify"
    assert "NOTIFY_SOCKET" not in os.environ
    assert "WATCHDOG_USEC" not in os.environ
