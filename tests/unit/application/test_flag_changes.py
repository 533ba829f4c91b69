"""Operators change flags: declared ones, with a reason, and two of them where the contract asks for it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from app.application.flag_changes import FlagChange, FlagChangeRefusedError, FlagChanges
from app.application.repair import RepairReason, RepairRefusedError
from app.contracts.loader import FeatureFlag
from tests.support.builders import CountingIds

EASY, GRAVE = "easy", "grave"
ANA = RepairReason("ana", "ticket 4711: the pilot begins")
BEN = RepairReason("ben", "ticket 4711: looked at it, go on")
TENANT = "acme"


def flag(approval: str) -> FeatureFlag:
    document = {"owner": "tests", "type": "bool", "default": False, "approval": approval, "purpose": "tests"}
    return FeatureFlag.model_validate(document)


class MemoryFlagStore:
    """See `app.application.flag_changes.FlagStore`."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str | None], tuple[bool, bool]] = {}
        self.done: set[str] = set()
        self.states: dict[UUID, str] = {}
        self.changes: dict[UUID, FlagChange] = {}

    async def is_done(self, migration: str) -> bool:
        return migration in self.done

    async def has_tenant(self, tenant_id: str) -> bool:
        return tenant_id == TENANT

    async def value(self, flag: str, tenant_id: str | None) -> bool | None:
        return self.values.get((flag, tenant_id), (None, False))[0]

    async def put(
        self, flag: str, tenant_id: str | None, *, enabled: bool, operator: str, is_operator_set: bool
    ) -> None:
        self.values[flag, tenant_id] = (enabled, is_operator_set)

    async def remove(self, flag: str, tenant_id: str) -> None:
        self.values.pop((flag, tenant_id), None)

    async def supersede(self, flag: str, tenant_id: str | None) -> None:
        for change_id, change in self.changes.items():
            if (change.flag, change.tenant_id, self.states[change_id]) == (flag, tenant_id, "pending"):
                self.states[change_id] = "superseded"

    async def request(self, change: FlagChange, before: bool | None) -> None:
        self.changes[change.change_id], self.states[change.change_id] = change, "pending"

    async def record(self, change: FlagChange, before: bool | None) -> None:
        self.changes[change.change_id], self.states[change.change_id] = change, "applied"

    async def waiting(self, change_id: UUID) -> FlagChange | None:
        return self.changes[change_id] if self.states.get(change_id) == "pending" else None

    async def approve(self, change: FlagChange, before: bool | None, reason: RepairReason) -> None:
        self.states[change.change_id] = "applied"


@pytest.fixture
def store() -> MemoryFlagStore:
    return MemoryFlagStore()


@pytest.fixture
def changes(store: MemoryFlagStore) -> FlagChanges:
    return FlagChanges(store, {EASY: flag("one-person"), GRAVE: flag("two-person")}, {EASY: True}, CountingIds())


async def test_a_change_by_one_person_is_in_force_at_once(changes: FlagChanges, store: MemoryFlagStore) -> None:
    change, is_in_force = await changes.change(EASY, TENANT, ANA, value=False)

    assert is_in_force
    assert store.values[EASY, TENANT] == (False, True)
    assert store.states == {change.change_id: "applied"}


async def test_a_marked_flag_waits_for_another_person(changes: FlagChanges, store: MemoryFlagStore) -> None:
    change, is_in_force = await changes.change(GRAVE, None, ANA, value=True)
    assert not is_in_force
    assert store.values == {}

    with pytest.raises(FlagChangeRefusedError, match="ana asked for this change"):
        await changes.approve(change.change_id, replace(ANA, text="me again, still fine"))
    assert store.values == {}

    await changes.approve(change.change_id, BEN)
    assert store.values[GRAVE, None] == (True, True)
    assert store.states == {change.change_id: "applied"}


SWITCH, BACKFILL = "read-new-form", "0031_backfill_note"


@pytest.fixture
def switching(store: MemoryFlagStore) -> FlagChanges:
    """Two flags that need a backfill; the second one's change waits for another person."""
    declared = {
        SWITCH: flag("one-person").model_copy(update={"needs": BACKFILL}),
        GRAVE: flag("two-person").model_copy(update={"needs": BACKFILL}),
    }
    return FlagChanges(store, declared, {SWITCH: True}, CountingIds())


async def test_a_switch_is_refused_by_the_name_of_the_backfill_that_it_needs(
    switching: FlagChanges, store: MemoryFlagStore
) -> None:
    refused = f"{SWITCH} needs {BACKFILL}, which is not done"
    with pytest.raises(FlagChangeRefusedError, match=refused):
        await switching.change(SWITCH, TENANT, ANA, value=True)
    with pytest.raises(FlagChangeRefusedError, match=refused):
        await switching.hold_defaults([SWITCH])
    assert store.values == {}
    await switching.change(SWITCH, TENANT, ANA, value=False)

    store.done.add(BACKFILL)
    await switching.change(SWITCH, TENANT, ANA, value=True)
    await switching.hold_defaults([SWITCH])

    assert store.values[SWITCH, TENANT] == (True, True)


async def test_what_was_asked_for_in_time_is_not_approved_too_early(
    switching: FlagChanges, store: MemoryFlagStore
) -> None:
    store.done.add(BACKFILL)
    change, _ = await switching.change(GRAVE, None, ANA, value=True)
    store.done.clear()

    with pytest.raises(FlagChangeRefusedError, match=f"{GRAVE} needs {BACKFILL}, which is not done"):
        await switching.approve(change.change_id, BEN)
    assert store.values == {}


async def test_what_was_approved_once_cannot_be_approved_again(changes: FlagChanges) -> None:
    change, _ = await changes.change(GRAVE, None, ANA, value=True)
    await changes.approve(change.change_id, BEN)

    with pytest.raises(FlagChangeRefusedError, match="no change"):
        await changes.approve(change.change_id, BEN)


async def test_a_newer_request_takes_the_place_of_the_older(changes: FlagChanges, store: MemoryFlagStore) -> None:
    older, _ = await changes.change(GRAVE, None, ANA, value=True)
    newer, _ = await changes.change(GRAVE, None, BEN, value=False)

    assert store.states == {older.change_id: "superseded", newer.change_id: "pending"}
    with pytest.raises(FlagChangeRefusedError, match="no change"):
        await changes.approve(older.change_id, BEN)


async def test_the_environment_goes_back_to_its_own_default(changes: FlagChanges, store: MemoryFlagStore) -> None:
    await changes.change(EASY, None, ANA, value=False)
    await changes.change(EASY, None, ANA, value=None)

    assert store.values[EASY, None] == (True, False)


async def test_a_tenant_goes_back_to_the_environments_value(changes: FlagChanges, store: MemoryFlagStore) -> None:
    await changes.change(EASY, TENANT, ANA, value=False)
    await changes.change(EASY, TENANT, ANA, value=None)

    assert store.values == {}


async def test_an_undeclared_flag_an_unknown_tenant_and_no_change_are_refused(changes: FlagChanges) -> None:
    with pytest.raises(FlagChangeRefusedError, match=r"eazy is not declared in feature_flags.yml; did you mean easy"):
        await changes.change("eazy", None, ANA, value=True)
    with pytest.raises(FlagChangeRefusedError, match="there is no tenant nobody"):
        await changes.change(EASY, "nobody", ANA, value=True)
    await changes.change(EASY, TENANT, ANA, value=True)
    with pytest.raises(FlagChangeRefusedError, match="it is so already"):
        await changes.change(EASY, TENANT, ANA, value=True)
    with pytest.raises(FlagChangeRefusedError, match="no change"):
        await changes.approve(uuid4(), BEN)


def test_a_reason_that_says_nothing_is_refused() -> None:
    with pytest.raises(RepairRefusedError):
        RepairReason("ana", "because")
