"""Each kind of change is found, with what it means in both directions, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from app.application.release_plan.changes import changes
from app.application.release_plan.described import Migration
from app.application.release_plan.model import Change
from app.contracts.compatibility.finding import Level
from tests.support.releases import (
    MIGRATIONS,
    NEW,
    OLD,
    PROCESSES,
    UNITS,
    Alteration,
    Documents,
    around,
    bundle,
    live,
    process,
    release,
)

SAME, READERS, BREAKS = Level.COMPATIBLE, Level.READERS, Level.BREAKING


def found(*alterations: Alteration, **about: Any) -> list[Change]:
    """Changes of an altered bundle but for the units, which are another release in each."""
    made = changes(bundle(*alterations, **about), release(), live(), around(), is_backward=False)
    return [change for change in made if change.kind != "unit"]


def at(part: str, file: str, *path: str, value: Any = None) -> Alteration:
    """Set a place of a document, or take it away."""

    def alter(documents: Documents) -> None:
        node: Any = documents[part][file]
        for step in path[:-1]:
            node = node[step]
        if value is None:
            del node[path[-1]]
        else:
            node[path[-1]] = value

    return alter


TEXT = {"type": "string"}
BODY = ("paths", "/v1/orders", "get", "responses", "200", "content", "application/json", "schema", "properties")
SETTING = {"category": "security", "changes": "release", "kind": "text", "required": False}
JOB = {"group": "fulfillment", "timeout": "PT30S", "retries": 5}


@pytest.mark.parametrize(
    ("alteration", "kind", "name", "old", "new", "category", "forward", "backward"),
    [
        pytest.param(
            at("openapi", "openapi.yml", *BODY, "channel", value=TEXT),
            "api",
            "/paths/~1v1~1orders/get/responses/200/content/application~1json/schema/properties/channel",
            None,
            '{"type": "string"}',
            "response",
            READERS,
            BREAKS,
            id="API field that clients read",
        ),
        pytest.param(
            at("openapi", "openapi.yml", "paths", "/v1/orders", "get"),
            "api",
            "/paths/~1v1~1orders/get",
            "there",
            None,
            "",
            BREAKS,
            SAME,
            id="API operation that is gone",
        ),
        pytest.param(
            at("events", "order.v1.schema.json", "properties", "channel", value=TEXT),
            "event",
            "order.v1.schema.json channel",
            None,
            '{"type": "string"}',
            "",
            READERS,
            BREAKS,
            id="event field",
        ),
        pytest.param(
            at("events", "order.v1.schema.json", "properties", "state", "enum", value=["done", "held"]),
            "event",
            "order.v1.schema.json state",
            '{"enum": ["done"], "type": "string", "x-open": true}',
            '{"enum": ["done", "held"], "type": "string", "x-open": true}',
            "",
            READERS,
            BREAKS,
            id="value of an open enumeration",
        ),
        pytest.param(
            at("topics", "orders.v1.yml", "partitions", value=12),
            "topic",
            "orders.v1 partitions",
            "6",
            "12",
            "",
            SAME,
            BREAKS,
            id="partitions of a topic",
        ),
        pytest.param(
            at("variables", "order.v1.schema.json", "properties", "orderId", value={"type": "integer"}),
            "variables",
            "order.v1.schema.json: /properties/orderId/type",
            "there",
            "there",
            "",
            BREAKS,
            BREAKS,
            id="version of variables that is altered",
        ),
        pytest.param(
            at("settings", "settings.json", "api", "API_BANNER", value=SETTING),
            "setting",
            "api/API_BANNER",
            None,
            "text",
            "security",
            SAME,
            BREAKS,
            id="setting, with its category",
        ),
        pytest.param(
            at("job_types", "job_types.yml", "job_types", "notify", value=JOB),
            "job-type",
            "notify",
            None,
            '{"group": "fulfillment", "retries": 5, "timeout": "PT30S"}',
            "",
            SAME,
            SAME,
            id="job type that no process asks for yet",
        ),
        pytest.param(
            at("job_types", "job_types.yml", "job_types", "reserve", "retries", value=9),
            "job-type",
            "reserve retries",
            "5",
            "9",
            "",
            SAME,
            SAME,
            id="retries of a job type",
        ),
        pytest.param(
            at("processes", "processes.yml", "routing", "order", "default", value="order-v2"),
            "process",
            "order by default",
            "order-v1",
            "order-v2",
            "",
            READERS,
            SAME,
            id="version that cases take by default",
        ),
        pytest.param(
            at("redis_keys", "redis_keys.yml", "keys", "offering", "value_version", value=3),
            "redis-key",
            "offering value_version",
            "2",
            "3",
            "",
            SAME,
            SAME,
            id="form of a value in Redis",
        ),
        pytest.param(
            at("redis_keys", "redis_keys.yml", "keys", "offering", "value_version", value=1),
            "redis-key",
            "offering value_version",
            "2",
            "1",
            "",
            BREAKS,
            SAME,
            id="form of a value in Redis that was used before",
        ),
        pytest.param(
            at("flags", "feature_flags.yml", "flags", "fast-start", "default", value=True),
            "flag",
            "fast-start default",
            "false",
            "true",
            "",
            READERS,
            READERS,
            id="default of a flag",
        ),
        pytest.param(
            at("flags", "feature_flags.yml", "flags", "fast-start"),
            "flag",
            "fast-start",
            "false",
            None,
            "",
            SAME,
            SAME,
            id="flag that is gone",
        ),
    ],
)
def test_one_difference_is_one_change(
    *,
    alteration: Alteration,
    kind: str,
    name: str,
    old: str | None,
    new: str | None,
    category: str,
    forward: Level,
    backward: Level,
) -> None:
    [change] = found(alteration)

    assert (change.kind, change.name) == (kind, name)
    assert (change.old, change.new, change.category) == (old, new, category)
    assert (change.forward, change.backward) == (forward, backward)
    assert change.text


def test_a_bundle_of_what_is_live_changes_nothing() -> None:
    same = bundle(release_id=OLD)

    assert changes(same, release(), live(), around(), is_backward=False) == []


@pytest.mark.parametrize(
    ("phase", "forward", "backward"), [("expand", SAME, SAME), ("backfill", SAME, BREAKS), ("contract", BREAKS, BREAKS)]
)
def test_a_pending_migration_is_told_by_its_phase(phase: str, forward: Level, backward: Level) -> None:
    added = Migration(f"0003_{phase}_channel", phase, "sha-3")

    [change] = found(migrations=(*MIGRATIONS, added))

    assert (change.kind, change.name, change.category) == (phase, added.name, phase)
    assert (change.forward, change.backward) == (forward, backward)


def test_migrations_of_a_database_that_could_not_be_asked_are_not_guessed() -> None:
    unknown = live(migrations=None)

    made = changes(bundle(), release(), unknown, around(), is_backward=False)

    assert {change.kind for change in made} == {"unit"}


def test_a_process_says_whether_workers_of_before_serve_it() -> None:
    served = process("order-v2", "two")
    unserved = process("order-v3", "three", job_types=("reserve", "notify"), variables_schema_version=2)

    made = {change.name: change for change in found(processes=(*PROCESSES, served, unserved))}

    assert (made["order-v2"].kind, made["order-v2"].old, made["order-v2"].backward) == ("process", None, SAME)
    assert made["order-v3"].backward is BREAKS
    assert made["order-v3"].text == "is new; workers of the release before do not know notify"


def test_another_content_of_a_process_that_the_engine_has_is_a_change() -> None:
    [change] = found(processes=(process(content="two"),))

    assert (change.name, change.old, change.new) == ("order-v1", "oneoneoneone", "twotwotwotwo")


def test_a_job_type_that_a_process_asks_for_has_no_way_back() -> None:
    alteration = at("job_types", "job_types.yml", "job_types", "notify", value=JOB)
    emitting = process("order-v2", "two", job_types=("reserve", "notify"))

    made = {change.name: change for change in found(alteration, processes=(*PROCESSES, emitting))}

    assert made["notify"].backward is BREAKS


def test_every_unit_of_another_release_is_changed_where_the_inventory_has_a_host_for_it() -> None:
    hosts = {unit: ("one",) for unit in UNITS if unit != "console"}

    made = changes(bundle(), release(), live(), around(hosts=hosts), is_backward=False)

    assert [(change.name, change.old, change.new) for change in made] == [
        (unit, OLD, NEW) for unit in UNITS if unit != "console"
    ]


def test_a_setting_that_the_inventory_does_not_give_breaks_and_one_that_it_gives_does_not() -> None:
    required = at("settings", "settings.json", "api", "API_LIMIT", value={**SETTING, "required": True})
    for given, level in ((("API_WORKERS",), BREAKS), (("API_WORKERS", "API_LIMIT"), SAME)):
        made = changes(bundle(required), release(), live(), around(given={"api": given}), is_backward=False)
        [change] = [each for each in made if each.kind == "setting"]
        assert change.forward is level


def test_a_release_that_goes_back_tells_changes_as_they_were_made() -> None:
    newer = release("cpq-oms-2026.11.30-200", at("events", "order.v1.schema.json", "properties", "channel", value=TEXT))

    made = changes(bundle(), newer, live(), around(newer), is_backward=True)

    [change] = [each for each in made if each.kind == "event"]
    assert (change.name, change.text) == ("order.v1.schema.json channel", "is new")
    assert (change.forward, change.backward) == (READERS, BREAKS)


def test_a_setting_is_told_as_the_inventory_meets_it_also_where_a_release_goes_back() -> None:
    newer = release("cpq-oms-2026.11.30-200", at("settings", "settings.json", "api", "API_BANNER", value=SETTING))
    given = {"api": ("API_WORKERS", "API_BANNER")}

    made = changes(bundle(), newer, live(), around(newer, given=given), is_backward=True)

    [change] = [each for each in made if each.kind == "setting"]
    assert (change.old, change.new, change.forward, change.backward) == ("text", None, BREAKS, SAME)
