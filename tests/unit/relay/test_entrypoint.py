from __future__ import annotations

from pathlib import Path

import pytest

from app.entrypoints.relay import __main__ as relay


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("db-password", "kafka-password"):
        (tmp_path / name).write_text("secret")
    settings = {
        "APP_ENV": "ci",
        "APP_INSTANCE_ID": "relay-1",
        "TENANT_MODE": "multi",
        "OTLP_ENDPOINT": "",
        "TLS_CA_FILE": "",
        "LOG_LEVEL": "INFO",
        "METRICS_BIND": "127.0.0.1:9120",
        "RELAY_BATCH_SIZE": "100",
        "RELAY_POLL_INTERVAL": "PT1S",
        "RELAY_LEASE_DURATION": "PT30S",
        "DB_URL": "postgresql://cpq_relay@db:5432/cpq",
        "DB_STATEMENT_TIMEOUT": "PT5S",
        "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092,kafka-2:9092",
        "KAFKA_USERNAME": "relay",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_sound_settings_pass_the_check() -> None:
    assert relay.main(["--check-config"]) == 0


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("RELAY_LEASE_DURATION", "PT1S", "expected at least PT10S"),
        ("RELAY_LEASE_DURATION", "30", "expected an ISO 8601 duration"),
        ("RELAY_POLL_INTERVAL", "PT0S", "expected a duration above zero"),
        ("RELAY_BATCH_SIZE", "many", "valid integer"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka", "expected host:port"),
        ("DB_URL", "postgresql://cpq_relay:secret@db/cpq", "expected no password in the URL"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, problem: str
) -> None:
    environment.setenv(name, value)

    assert relay.main([]) == 78
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: ")
    assert problem in error
    assert "secret" not in error


@pytest.mark.usefixtures("environment")
def test_a_missing_credential_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "kafka-password").unlink()

    assert relay.main(["--check-config"]) == 78
    assert capsys.readouterr().err.startswith("credential kafka-password: ")
