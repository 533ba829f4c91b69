"""Every setting of every unit says what it is and how it may change; what people read of it is made from that."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from app.application.configuration import SettingChange, SettingRefusedError, change_setting, changeable
from app.application.repair import RepairReason
from app.contracts.loader import load_units
from app.runtime.runtime_settings import RuntimeSettings
from app.settings.declaration import Category, Change, is_secret, setting_of, value_class
from app.settings.reader import OUR_PREFIXES, parse
from app.settings.units import RUNNING, UNITS
from app.settings.worker import WorkerSettings
from tests.support.settings_table import ALL, BEGIN, END, PAGE, SCHEMA, SYSTEMD_GIVES, schema, table

SETTINGS = Path(__file__).resolve().parents[3] / "app/settings"
WHY = RepairReason("ana", "ticket 4711: calls fail")


@pytest.mark.parametrize("unit", ALL)
def test_every_setting_declares_category_and_change_rule(unit: str) -> None:
    for name, described in ALL[unit].model_fields.items():
        assert setting_of(described), name


@pytest.mark.parametrize("unit", ALL)
def test_every_duration_has_a_longest_value(unit: str) -> None:
    for name, described in ALL[unit].model_fields.items():
        if described.annotation is timedelta:
            assert re.search(r", at most P(T\d+[HMS]|\d+D)$", value_class(described)), name


def test_a_setting_without_a_declaration_is_found() -> None:
    class Undeclared(BaseModel):
        answer: int

    with pytest.raises(LookupError):
        setting_of(Undeclared.model_fields["answer"])


def test_every_deployable_with_settings_is_among_them() -> None:
    assert set(ALL) == {unit for unit in load_units() if (SETTINGS / f"{unit}.py").is_file()}
    assert set(UNITS) - set(RUNNING) == {"admin"}


def test_every_name_begins_as_ours() -> None:
    names = {
        name.upper()
        for model in ALL.values()
        for name, described in model.model_fields.items()
        if not is_secret(described) and name not in SYSTEMD_GIVES
    }

    assert not [name for name in names if not name.startswith(OUR_PREFIXES)]


def test_what_must_not_change_at_run_time_does_not() -> None:
    fixed = ("DB_URL", "TENANT_MODE", "AUTH_ISSUER", "KAFKA_BOOTSTRAP_SERVERS", "EXTERNAL_ENVIRONMENT")

    assert set(changeable()) == {"LOG_LEVEL", "EXTERNAL_TIMEOUT"}
    assert not set(changeable()) & set(fixed)
    secrets = [setting_of(each) for model in ALL.values() for each in model.model_fields.values() if is_secret(each)]
    assert {(secret.category, secret.change) for secret in secrets} == {(Category.SECRET, Change.ROTATION)}


def test_the_page_shows_the_settings_as_they_are_declared() -> None:
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]

    assert shown == table(), "run python -m tests.support.settings_table"
    assert SCHEMA.read_text() == schema(), "run python -m tests.support.settings_table"


@dataclass
class MemoryConfigurationStore:
    """See `app.application.configuration.ConfigurationStore`."""

    values: dict[tuple[str, str], str | None] = field(default_factory=dict)

    async def make(self, change: SettingChange) -> bool:
        before = self.values.get((change.unit, change.name))
        self.values[change.unit, change.name] = change.value
        return before != change.value


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DB_URL", r"DB_URL does not change at run time \(runtime infrastructure\): a process keeps the connections"),
        ("tenant-mode", r"TENANT_MODE does not change at run time \(security\)"),
        ("DB_PASSWORD", r"DB_PASSWORD does not change at run time \(secret\): secrets are credential files"),
        ("RELAY_BATCH_SIZE", r"\(policy\): the unit was sized and checked with it"),
        ("FEATURE_FLAG_DEFAULTS", r"\(feature flag\): flags are changed by `flags set`"),
        ("schema-compatibility", "is a promise to consumers: it is declared with each topic"),
        ("approval-policy", "publish the next version with `approval-policy publish`"),
        ("CATALOG_VERSION", "publish the version with `catalog publish`"),
        ("LOG_LEVLE", r"LOG_LEVLE is no setting; did you mean LOG_LEVEL\?"),
    ],
)
async def test_a_setting_of_another_kind_is_refused_with_the_reason(name: str, reason: str) -> None:
    store = MemoryConfigurationStore()

    with pytest.raises(SettingRefusedError, match=reason):
        await change_setting(store, name, "anything", None, WHY)

    assert store.values == {}


async def test_a_value_is_held_to_the_setting_of_every_unit_it_is_for() -> None:
    store = MemoryConfigurationStore()
    with pytest.raises(SettingRefusedError, match="LOG_LEVEL: one of DEBUG, INFO, WARNING, ERROR: "):
        await change_setting(store, "LOG_LEVEL", "LOUD", None, WHY)
    with pytest.raises(SettingRefusedError, match="EXTERNAL_TIMEOUT is no setting of relay; it is one of worker"):
        await change_setting(store, "EXTERNAL_TIMEOUT", "PT2S", "relay", WHY)
    assert store.values == {}

    change = await change_setting(store, "log-level", "DEBUG", "relay", WHY)

    assert change.sentence == "LOG_LEVEL: DEBUG for relay"
    with pytest.raises(SettingRefusedError, match="it is so already"):
        await change_setting(store, "LOG_LEVEL", "DEBUG", "relay", WHY)


def test_a_running_process_follows_and_goes_back() -> None:
    runtime = RuntimeSettings(
        {"LOG_LEVEL": "INFO", "EXTERNAL_TIMEOUT": timedelta(seconds=8)},
        lambda variable, text: parse(WorkerSettings, variable, text),
    )
    levels: list[str] = []
    runtime.on_change("LOG_LEVEL", levels.append)

    runtime.override({"LOG_LEVEL": "DEBUG", "EXTERNAL_TIMEOUT": "PT2S", "SOMEBODY_ELSES": "x"})
    assert runtime.duration("EXTERNAL_TIMEOUT") == timedelta(seconds=2)

    runtime.override({"EXTERNAL_TIMEOUT": "two seconds"})  # nonsense changes nothing
    assert runtime.duration("EXTERNAL_TIMEOUT") == timedelta(seconds=2)

    runtime.override({})
    assert runtime.duration("EXTERNAL_TIMEOUT") == timedelta(seconds=8)
    assert levels == ["DEBUG", "INFO"]
