"""Flags by command, as units see them the moment after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from app.adapters.postgres.feature_flags import PostgresFlagStore
from app.adapters.postgres.flag_reader import PostgresFeatureFlags
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.start_queue import PostgresStartQueue
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.application.ports import FeatureFlags
from app.application.workflow_start import FLAG
from app.contracts import loader
from app.contracts.loader import FeatureFlag
from app.domain.values import TenantId
from app.entrypoints.admin import flag_command
from app.entrypoints.admin.commands.flags import apply, plan
from tests.integration.conftest import OpenPool
from tests.support.operator import Operator
from tests.support.orders import place_order, publish_catalog
from tests.support.services import Services

EASY, GRAVE = "tests-easy", "tests-grave"
WHY = ("--reason", "ticket 4711: the pilot begins")


def declared() -> dict[str, FeatureFlag]:
    document = {"owner": "tests", "type": "bool", "default": False, "purpose": "tests"}
    own = {
        EASY: FeatureFlag.model_validate(document | {"approval": "one-person"}),
        GRAVE: FeatureFlag.model_validate(document | {"approval": "two-person"}),
    }
    return {**loader.load_feature_flags(), **own}


@pytest.fixture
async def own_flags(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Two flags that only these tests declare."""
    for module in (flag_command, apply, plan):
        monkeypatch.setattr(module, "load_feature_flags", declared)
    yield
    # Their rows would stop the release of the same environment; the operators' role may not delete them.
    owner = await psycopg.AsyncConnection.connect(
        services.database_url("owner"), password=services.secret("db_owner_password"), autocommit=True
    )
    async with owner:
        await owner.execute("DELETE FROM cpq.feature_flag WHERE flag LIKE 'tests-%'")


@pytest.fixture
async def tenant(admin_connection: Connection, tenant_id: str) -> TenantId:
    await admin_connection.execute("INSERT INTO cpq.tenant VALUES (%s, 'tests', 'EUR')", [tenant_id])
    return TenantId(tenant_id)


@pytest.fixture
async def flags(open_pool: OpenPool) -> FeatureFlags:
    """Flags as a worker asks for them."""
    return PostgresFeatureFlags(await open_pool("worker"), {EASY: False, GRAVE: False})


@pytest.fixture
def ana(services: Services, schema: None, own_flags: None, tmp_path: Path) -> Operator:  # noqa: ARG001 (wanted for what they do)
    return Operator(services, tmp_path)


@pytest.fixture
def ben(services: Services, ana: Operator, tmp_path: Path) -> Operator:  # noqa: ARG001 (works where she does)
    return Operator(services, tmp_path, "ben")


async def test_a_tenants_value_wins_over_the_environments(ana: Operator, flags: FeatureFlags, tenant: TenantId) -> None:
    assert not await flags.is_enabled(EASY, tenant)

    assert (await ana.run("flags", "set", EASY, "on", "--tenant", tenant, *WHY)).changed
    assert await flags.is_enabled(EASY, tenant)
    assert not await flags.is_enabled(EASY)
    assert not await flags.is_enabled(EASY, TenantId("somebody-else"))

    assert (await ana.run("flags", "set", EASY, "on", *WHY)).changed
    assert (await ana.run("flags", "set", EASY, "off", "--tenant", tenant, *WHY)).changed
    assert await flags.is_enabled(EASY)
    assert not await flags.is_enabled(EASY, tenant)

    assert (await ana.run("flags", "unset", EASY, "--tenant", tenant, *WHY)).changed
    assert await flags.is_enabled(EASY, tenant)

    history = (await ana.run("flags", "history", EASY, "--tenant", tenant)).data["changes"]
    assert [(change["value_before"], change["value_after"]) for change in history] == [
        (False, None),
        (True, False),
        (None, True),
    ]
    assert {(change["requested_by"], change["state"]) for change in history} == {("ana", "applied")}


async def test_one_person_asks_and_another_approves(
    ana: Operator, ben: Operator, flags: FeatureFlags, tenant: TenantId
) -> None:
    asked = await ana.run("flags", "set", GRAVE, "on", "--tenant", tenant, *WHY)
    assert not asked.changed
    change_id = asked.data["change_id"]
    assert not await flags.is_enabled(GRAVE, tenant)
    waiting = (await ben.run("flags", "list", "--tenant", tenant)).data["waiting"]
    assert change_id in {str(change["change_id"]) for change in waiting}

    own = await ana.run("flags", "approve", change_id, *WHY)
    assert own.problems == ("ana asked for this change: another person must approve it",)
    assert not await flags.is_enabled(GRAVE, tenant)

    assert (await ben.run("flags", "approve", change_id, *WHY)).changed
    assert await flags.is_enabled(GRAVE, tenant)
    (change,) = (await ana.run("flags", "history", GRAVE, "--tenant", tenant)).data["changes"]
    assert (change["requested_by"], change["approved_by"]) == ("ana", "ben")


async def test_a_value_that_nobody_set_is_drift_and_an_operators_is_not(
    ana: Operator, admin_connection: Connection
) -> None:
    await ana.run("flags", "apply")
    assert (await ana.run("flags", "plan")).exit_code == 0
    assert (await ana.run("flags", "set", EASY, "on", *WHY)).changed
    assert (await ana.run("flags", "plan")).exit_code == 0

    await admin_connection.execute("UPDATE cpq.feature_flag SET enabled = true WHERE flag = %s", [GRAVE])
    planned = await ana.run("flags", "plan")
    assert planned.exit_code == 3
    assert planned.changes == [f"set {GRAVE} to its default, false: it is true and no operator set it so"]
    assert (await ana.run("flags", "apply")).changed
    assert (await ana.run("flags", "plan")).exit_code == 0


async def test_an_inventorys_default_is_what_a_release_sets(
    ana: Operator, services: Services, tmp_path: Path, admin_connection: Connection
) -> None:
    await ana.run("flags", "apply")
    elsewhere = Operator(services, tmp_path, changes={"FEATURE_FLAG_DEFAULTS": f"{EASY}=on"})

    assert (await elsewhere.run("flags", "plan")).exit_code == 3
    assert (await elsewhere.run("flags", "apply")).changed

    assert (await PostgresFlagStore(admin_connection).values())[EASY]
    undeclared = Operator(services, tmp_path, changes={"FEATURE_FLAG_DEFAULTS": "no-such=on"})
    assert "no-such" in (await undeclared.run("flags", "plan")).problems[0]


async def test_history_cannot_be_rewritten(ana: Operator, tenant: TenantId, admin_connection: Connection) -> None:
    assert (await ana.run("flags", "set", EASY, "on", "--tenant", tenant, *WHY)).changed

    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        await admin_connection.execute(
            "UPDATE cpq.feature_flag_change SET reason = 'another' WHERE tenant_id = %s", [tenant]
        )


async def test_a_tenant_that_is_off_holds_back_its_own_new_orders_and_nobody_elses(
    ana: Operator, admin_connection: Connection, open_pool: OpenPool, tenant_id: str
) -> None:
    await admin_connection.execute("UPDATE cpq.workflow_reference SET state = 'failed' WHERE state = 'pending'")
    held, other = TenantId(tenant_id), TenantId(f"{tenant_id}-2")
    await publish_catalog(admin_connection, held, other)
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))
    waiting = [await place_order(open_unit_of_work, held) for _ in range(3)]
    next_one = await place_order(open_unit_of_work, other)
    queue = PostgresStartQueue(await open_pool("worker"), {FLAG: True})

    assert (await ana.run("flags", "set", FLAG, "off", "--tenant", held, *WHY)).changed
    assert [due.order_id for due in await queue.due(1, FLAG)] == [next_one]
    assert [due.order_id for due in await queue.due(32, FLAG)] == [next_one]

    assert (await ana.run("flags", "unset", FLAG, "--tenant", held, *WHY)).changed
    assert [due.order_id for due in await queue.due(32, FLAG)] == [*waiting, next_one]
    references = await admin_connection.execute(
        "SELECT start_attempts FROM cpq.workflow_reference WHERE tenant_id = %s", [held]
    )
    assert {row["start_attempts"] for row in await references.fetchall()} == {0}
