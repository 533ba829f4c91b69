"""Every running unit follows an operator's change without a restart; nothing shows a secret on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.adapters.postgres.pool import Connection
from tests.integration.api.conftest import StartApi
from tests.integration.worker.conftest import StartWorker
from tests.support.event_fixtures import StartUnit
from tests.support.operator import Operator
from tests.support.services import Services
from tests.support.waiting import eventually

WHY = ("--reason", "ticket 4711: why do calls fail")


@pytest.fixture
async def ana(
    services: Services,
    admin_connection: Connection,
    tmp_path: Path,
) -> AsyncIterator[Operator]:
    """An operator who finds nothing set and leaves nothing behind."""
    await admin_connection.execute("DELETE FROM cpq.runtime_setting")
    folder = tmp_path / "operator"
    folder.mkdir()
    yield Operator(services, folder)
    await admin_connection.execute("DELETE FROM cpq.runtime_setting")


def changes(log: str, setting: str, after: str) -> int:
    """How many processes wrote that a setting has this value now."""
    return len(
        [line for line in log.splitlines() if f'"setting": "{setting}"' in line and f'"after": "{after}"' in line]
    )


def shown_by(pid: int) -> str:
    """What anybody on the machine may see of a process."""
    return Path(f"/proc/{pid}/environ").read_text() + Path(f"/proc/{pid}/cmdline").read_text()


async def test_every_unit_follows_without_a_restart(
    ana: Operator,
    admin_connection: Connection,
    start_api: StartApi,
    start_unit: StartUnit,
    start_worker: StartWorker,
) -> None:
    api = start_api()
    relay, consumer = start_unit("relay", "relay-configured"), start_unit("consumer", "consumer-configured")
    worker = start_worker("fulfillment")
    assert api.wait_for("READY=1"), api.log.read_text()
    relay.wait_ready()
    consumer.wait_ready()
    workers = api.workers()
    logs: dict[str, Callable[[], str]] = {
        "api": api.log.read_text,
        "relay": lambda: relay.log,
        "consumer": lambda: consumer.log,
        "worker": lambda: worker.log,
    }

    async def all_have(setting: str, after: str, processes: dict[str, int]) -> None:
        async def followed() -> bool:
            return {unit: changes(logs[unit](), setting, after) for unit in processes} == processes

        await eventually(followed, f"{setting} is {after} in {processes}")

    everywhere = {"api": len(workers), "relay": 1, "consumer": 1, "worker": 1}
    assert (await ana.run("config", "set", "LOG_LEVEL", "DEBUG", *WHY)).changed
    await all_have("LOG_LEVEL", "DEBUG", everywhere)
    assert (await ana.run("config", "set", "EXTERNAL_TIMEOUT", "PT1.5S", "--unit", "worker", *WHY)).changed
    await all_have("EXTERNAL_TIMEOUT", "0:00:01.500000", {"worker": 1})
    assert changes(logs["relay"](), "EXTERNAL_TIMEOUT", "0:00:01.500000") == 0

    # Without a notification, as when it was lost: the next look finds it. What nobody set is as started.
    await admin_connection.execute("DELETE FROM cpq.runtime_setting")
    await all_have("LOG_LEVEL", "INFO", everywhere)
    await all_have("EXTERNAL_TIMEOUT", "0:00:03", {"worker": 1})

    assert api.workers() == workers
    assert relay.is_running
    assert consumer.is_running
    names = ("db_api_password", "redis_api_password", "db_worker_password", "kafka_relay_password")
    secrets = [ana.services.secret(name) for name in names]
    shown = [*(shown_by(pid) for pid in (api.process.pid, *workers)), *(log() for log in logs.values())]
    assert not [secret for secret in secrets if any(secret in text for text in shown)]


async def test_what_must_not_change_is_refused_and_changes_are_kept(
    ana: Operator, admin_connection: Connection
) -> None:
    for name, value in (("DB_URL", "postgresql://x@y/z"), ("TENANT_MODE", "multi"), ("schema-compatibility", "none")):
        refused = await ana.run("config", "set", name, value, *WHY)
        assert refused.exit_code == 1
        assert not refused.changed
    assert (await ana.run("config", "set", "LOG_LEVEL", "WARNING", "--unit", "relay", *WHY)).changed
    assert (await ana.run("config", "unset", "LOG_LEVEL", "--unit", "relay", *WHY)).changed

    listed = (await ana.run("config", "list")).data
    assert listed["set"] == []
    assert listed["changeable"]["EXTERNAL_TIMEOUT"] == ["worker"]
    newest = [(each["value_before"], each["value_after"], each["changed_by"]) for each in listed["history"][:2]]
    assert newest == [("WARNING", None, "ana"), (None, "WARNING", "ana")]
    row = await (
        await admin_connection.execute(
            "SELECT outcome, reason FROM cpq.admin_run WHERE command = 'config set' AND outcome = 'failed' "
            "ORDER BY started_at DESC LIMIT 1"
        )
    ).fetchone()
    assert row is not None
    assert row["reason"] == WHY[1]
