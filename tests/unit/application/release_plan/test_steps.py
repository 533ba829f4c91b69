"""The order of steps, whatever a release changes: who serves comes before who asks, who reads before who writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.application.migration_header import Header
from app.application.release_plan.described import Bundle, Migration
from app.application.release_plan.model import Plan
from app.application.release_plan.planner import plan
from app.contracts.loader import RELEASE_PLAYBOOK, ReleasePart, load_release_steps
from tests.support.releases import (
    HOSTS,
    MIGRATIONS,
    OLD,
    PROCESSES,
    UNITS,
    Documents,
    around,
    bundle,
    live,
    process,
    release,
)

STEPS = load_release_steps()
WRITERS = ("api", "workers", "relays")


def event_field(documents: Documents) -> None:
    documents["events"]["order.v1.schema.json"]["properties"]["channel"] = {"type": "string"}


def new_topic(documents: Documents) -> None:
    documents["topics"]["orders.v2.yml"] = {**documents["topics"]["orders.v1.yml"], "schema": "order.v2.schema.json"}
    documents["events"]["order.v2.schema.json"] = documents["events"]["order.v1.schema.json"]


def job_type(documents: Documents) -> None:
    documents["job_types"]["job_types.yml"]["job_types"]["notify"] = {"group": "fulfillment"}


def flag(documents: Documents) -> None:
    documents["flags"]["feature_flags.yml"]["flags"]["other"] = {"type": "bool", "default": False}


def setting(documents: Documents) -> None:
    settings = documents["settings"]["settings.json"]["api"]
    settings["API_BANNER"] = {**settings["API_WORKERS"], "required": False}


def redis_key(documents: Documents) -> None:
    documents["redis_keys"]["redis_keys.yml"]["keys"]["offering"]["value_version"] = 3


def api_field(documents: Documents) -> None:
    get = documents["openapi"]["openapi.yml"]["paths"]["/v1/orders"]["get"]
    get["responses"]["404"] = {"description": "None."}


DOCUMENTS: tuple[Callable[[Documents], None], ...] = (
    event_field,
    new_topic,
    job_type,
    flag,
    setting,
    redis_key,
    api_field,
)
ADDED = tuple(
    Migration(f"000{number}_{phase}_x", phase, "sha") for number, phase in enumerate(("expand", "backfill"), 3)
)
PROCESS = process("order-v2", "two")


@st.composite
def releases(draw: st.DrawFn) -> tuple[Bundle, frozenset[str] | None]:
    """Any mixture of changes, and any hosts that differ."""
    alterations = draw(st.lists(st.sampled_from(DOCUMENTS), unique=True))
    migrations = (*MIGRATIONS, *draw(st.lists(st.sampled_from(ADDED), unique=True)))
    processes = (*PROCESSES, *draw(st.lists(st.just(PROCESS), max_size=1)))
    units = draw(st.one_of(st.none(), st.frozensets(st.sampled_from(UNITS))))
    differs = None if units is None else frozenset(host for unit in units for host in HOSTS[unit])
    contract = Migration("0009_contract_x", "contract", "sha", Header(replaced_by=MIGRATIONS[1].name))
    kept = (*migrations, contract) if draw(st.booleans()) else migrations
    return bundle(*alterations, migrations=kept, processes=processes), differs


def made(what: Bundle, differs: frozenset[str] | None = None, hosts: Mapping[str, tuple[str, ...]] = HOSTS) -> Plan:
    return plan(what, live(), around(hosts=hosts, differs=differs), STEPS)


def places(given_plan: Plan) -> dict[str, int]:
    return {step.step: place for place, step in enumerate(given_plan.steps) if step.acts}


@settings(max_examples=300, deadline=None)
@given(releases())
def test_no_release_brings_a_thing_before_what_it_needs(drawn: tuple[Bundle, frozenset[str] | None]) -> None:
    planned = made(*drawn)
    acting = places(planned)
    brought = {step.step: set(step.because) for step in planned.steps}
    consumers = [acting[step] for step in ("consumers-first", "consumers") if step in acting]

    # BPMN after its workers.
    if "workers" in acting and "processes-and-flags" in acting:
        assert acting["workers"] < acting["processes-and-flags"]
    assert all(
        step in {"processes-and-flags", "workers"} for step, because in brought.items() if "process order-v2" in because
    )
    # Consumers once, before whoever publishes, and before whoever writes what is new in events.
    assert len(consumers) <= 1
    if consumers and "relays" in acting:
        assert consumers[0] < acting["relays"]
    if planned.readers_first and consumers:
        assert all(consumers[0] < acting[writer] for writer in WRITERS if writer in acting)
    assert planned.readers_first == any(change.kind == "event" for change in planned.changes)
    # The schema grows before any code needs it, and a release takes nothing away and moves no data.
    if "provision" in acting:
        assert all(
            acting["provision"] < acting[step] for step in acting if step in {*WRITERS, "consumers", "consumers-first"}
        )
    ours = [because for step in planned.steps if step.playbook == RELEASE_PLAYBOOK for because in step.because]
    assert not any(because.startswith(("contract ", "backfill ")) for because in ours)
    # Acts that follow it are there for those alone, and nothing comes after what takes away.
    assert all(
        bool(step.because) == step.acts and all(because.startswith(f"{kind} ") for because in step.because)
        for step, kind in ((step, step.step.removesuffix("s")) for step in planned.steps)
        if step.playbook != RELEASE_PLAYBOOK
    )
    if "contract" in acting:
        assert acting["contract"] == max(acting.values())


@settings(max_examples=50, deadline=None)
@given(releases())
def test_the_same_descriptions_give_the_same_plan(drawn: tuple[Bundle, frozenset[str] | None]) -> None:
    assert made(*drawn) == made(*drawn)


def test_the_steps_are_those_declared_and_in_that_order() -> None:
    planned = made(bundle())

    assert [(step.step, step.play) for step in planned.steps] == [(step.step, step.play) for step in STEPS.steps]


def test_consumers_come_first_where_events_have_something_new_and_keep_their_place_otherwise() -> None:
    assert "consumers" in places(made(bundle(setting)))
    assert "consumers-first" not in places(made(bundle(setting)))
    assert "consumers-first" in places(made(bundle(event_field)))
    assert "consumers" not in places(made(bundle(event_field)))


def test_a_step_says_what_it_is_there_for_and_where_it_acts() -> None:
    planned = made(bundle(setting, flag), frozenset({"api-2", "worker-1"}))
    steps = {step.step: step for step in planned.steps}

    assert (steps["api"].acts, steps["api"].hosts) == (True, ("api-2",))
    assert set(steps["api"].because) == {"unit api", "setting api/API_BANNER", "flag other"}
    assert (steps["relays"].acts, steps["relays"].hosts) == (False, ())
    assert (steps["provision"].acts, steps["processes-and-flags"].acts) == (False, True)
    assert steps["processes-and-flags"].hosts == ("admin-1",)
    assert steps["look"].hosts == HOSTS["all"]
    assert all(step.reason and step.gate and step.spec for step in planned.steps)


def test_a_release_with_nothing_new_only_judges() -> None:
    planned = plan(bundle(release_id=OLD), live(), around(hosts=HOSTS, differs=frozenset()), STEPS)

    assert list(places(planned)) == ["judge", "look", "interfaces", "checks", "look-again", "proof"]
    assert planned.changes == ()


def test_a_setting_that_differs_on_a_host_makes_its_step_act_although_the_release_is_the_same() -> None:
    planned = plan(bundle(release_id=OLD), live(), around(hosts=HOSTS, differs=frozenset({"relay-1"})), STEPS)

    assert planned.changes == ()
    assert places(planned).keys() > {"relays"}


@pytest.mark.parametrize(
    ("change", "act"),
    [
        (bundle(event_field), "Watch lag and dead letters of the groups that read the events."),
        (
            bundle(migrations=(*MIGRATIONS, ADDED[1])),
            "Switch reads to what was filled: cpq-oms-admin flags set, or the release that reads it alone.",
        ),
        (bundle(flag), "Turn flags on for selected tenants first: cpq-oms-admin flags set."),
    ],
)
def test_what_is_left_for_people_is_said(change: Bundle, act: str) -> None:
    assert act in made(change).afterwards
    assert act not in made(bundle(setting)).afterwards


def test_a_release_that_was_cut_short_is_planned_against_the_one_it_leaves() -> None:
    """Some hosts have the bundle's release already, others the one before."""
    what = bundle(event_field)
    planned = plan(what, live(), around(release(), what.release, hosts=HOSTS), STEPS)

    assert planned.readers_first
    assert planned.live == (OLD, what.release.release_id)


@pytest.mark.parametrize("differs", [None, frozenset({"api-1", "api-2"})])
def test_a_canary_is_activated_and_judged_before_the_other_hosts_of_the_api(differs: frozenset[str] | None) -> None:
    hosts = {**HOSTS, "api": ("api-1", "api-2")}
    canary = replace(around(hosts=hosts, differs=differs), parts={"canary": frozenset({"api-2"})})
    with_it = plan(bundle(api_field), live(), canary, STEPS)
    without = made(bundle(api_field), differs, hosts)

    order = [
        (step.step, step.hosts) for step in with_it.steps if step.acts and step.step in {"api-canary", "canary", "api"}
    ]
    assert order == [("api-canary", ("api-2",)), ("canary", HOSTS["admin"][:1]), ("api", ("api-1",))]
    assert {"api-canary", "canary"}.isdisjoint(places(without))
    assert next(step.hosts for step in without.steps if step.step == "api") == ("api-1", "api-2")


@pytest.mark.parametrize("differs", [None, frozenset({"api-1", "api-2"})])
def test_the_colour_that_stands_by_comes_first_gets_the_requests_and_the_other_follows_when_all_else_is_there(
    differs: frozenset[str] | None,
) -> None:
    hosts = {**HOSTS, "api": ("api-1", "api-2")}
    parts: dict[ReleasePart, frozenset[str]] = {"standby": frozenset({"api-2"}), "former": frozenset({"api-1"})}
    with_them = plan(bundle(api_field), live(), replace(around(hosts=hosts, differs=differs), parts=parts), STEPS)

    found = [(step.step, step.hosts) for step in with_them.steps if step.acts]
    assert [each for each in found if each[0].startswith("api")] == [
        ("api-standby", ("api-2",)),
        ("api-switch", HOSTS["admin"][:1]),
        ("api-former", ("api-1",)),
    ]
    names = [step.step for step in with_them.steps]
    assert names.index("api-former") > names.index("processes-and-flags")
    assert {"api-standby", "api-switch", "api-former"}.isdisjoint(places(made(bundle(api_field), differs, hosts)))
