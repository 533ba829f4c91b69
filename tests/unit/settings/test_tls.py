"""The workflow engine's settings: with a certificate where there is TLS, without where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings.reader import SettingsError, read
from app.settings.shared import EngineSettings

ENGINE = {"CAMUNDA_GRPC_ADDRESS": "10.0.0.1:26500,10.0.0.2:26500"}


def test_certificate_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "camunda-certificate").write_text("first line\nsecond line\n")
    (tmp_path / "camunda-key").write_text("canary-key\n")

    settings = read(EngineSettings, ENGINE, tmp_path)

    assert settings.camunda_addresses == ENGINE["CAMUNDA_GRPC_ADDRESS"]
    assert settings.camunda_certificate.get_secret_value() == "first line\nsecond line"
    assert settings.camunda_key.get_secret_value() == "canary-key"
    assert "canary" not in repr(settings)


def test_environment_without_tls_needs_no_certificate(tmp_path: Path) -> None:
    # What the service manager passes on for a file that is not there.
    (tmp_path / "camunda-key").write_text("\n")

    for directory in (tmp_path, None):
        settings = read(EngineSettings, ENGINE, directory)
        assert not settings.camunda_key.get_secret_value()


def test_several_gateways_are_given_by_address(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CAMUNDA_GRPC_ADDRESS: expected IPv4 addresses"):
        read(EngineSettings, {"CAMUNDA_GRPC_ADDRESS": "zeebe-1:26500,10.0.0.2:26500"}, tmp_path)

    alone = read(EngineSettings, {"CAMUNDA_GRPC_ADDRESS": "zeebe-1:26500"}, tmp_path)
    assert alone.camunda_addresses == "zeebe-1:26500"
