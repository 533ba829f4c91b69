from __future__ import annotations

from pathlib import Path

import pytest

from app.contracts.loader import load_units
from app.entrypoints.consumer import __main__ as consumer
from app.entrypoints.consumer.wiring import GROUPS, group_problem


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("db-password", "kafka-password"):
        (tmp_path / name).write_text("secret")
    settings = {
        "APP_ENV": "ci",
        "APP_INSTANCE_ID": "consumer-1",
        "TENANT_MODE": "multi",
        "OTLP_ENDPOINT": "",
        "TLS_CA_FILE": "",
        "LOG_LEVEL": "INFO",
        "METRICS_BIND": "127.0.0.1:9130",
        "CONSUMER_GROUP": "order-projection",
        "CONSUMER_BATCH_SIZE": "100",
        "CONSUMER_EXPORT_INTERVAL": "PT1M",
        "STATE_DIRECTORY": "/var/lib/cpq-oms-consumer/order-projection",
        "DB_URL": "postgresql://cpq_consumer@db:5432/cpq",
        "DB_STATEMENT_TIMEOUT": "PT5S",
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "KAFKA_USERNAME": "consumer",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_sound_settings_pass_the_check() -> None:
    assert consumer.main(["--check-config"]) == 0


def test_a_misspelt_group_is_a_wrong_setting(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("CONSUMER_GROUP", "order-projektion")

    assert consumer.main(["--check-config"]) == 78
    assert capsys.readouterr().err == (
        "CONSUMER_GROUP: 'order-projektion' is none of "
        "audit-export, billing-trigger, notification, order-projection, reconciliation\n"
    )


def test_every_problem_is_named_on_its_own_line(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("CONSUMER_BATCH_SIZE", "0")
    environment.delenv("KAFKA_USERNAME")

    assert consumer.main(["--check-config"]) == 78
    assert [line.split(":")[0] for line in sorted(capsys.readouterr().err.splitlines())] == [
        "CONSUMER_BATCH_SIZE",
        "KAFKA_USERNAME",
    ]


def test_each_declared_instance_has_its_group_and_each_group_its_instance() -> None:
    assert set(load_units()["consumer"].instances) == set(GROUPS)
    assert [group_problem(group) for group in GROUPS] == [None] * len(GROUPS)
