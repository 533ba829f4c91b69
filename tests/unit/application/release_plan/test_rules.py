"""What breaks the order is refused by name, with what to do instead; what does not is let pass."""

from __future__ import annotations

from typing import Any

import pytest

from app.application.migration_header import Header
from app.application.process_versions import LiveWorker, ReachedProcess
from app.application.release_plan.described import Applied, Bundle, Described, Live, Migration
from app.application.release_plan.planner import plan
from app.contracts.loader import load_release_steps
from tests.support.releases import (
    MIGRATIONS,
    NEW,
    OLD,
    PROCESSES,
    Alteration,
    Documents,
    around,
    bundle,
    live,
    process,
    release,
)

STEPS = load_release_steps()
NEXT = "cpq-oms-2026.11.28-102"


def refused(made: Bundle, there: Live | None = None, *installed: Described) -> list[tuple[str, str]]:
    """Rule and words of each refusal."""
    given = plan(made, live() if there is None else there, around(*installed), STEPS)
    assert all(each.remedy for each in given.refusals)
    return [(each.rule, each.what) for each in given.refusals]


def generation(number: int) -> Alteration:
    def alter(documents: Documents) -> None:
        documents["path"]["release_path.yml"]["generation"] = number

    return alter


def at(part: str, file: str, **values: Any) -> Alteration:
    def alter(documents: Documents) -> None:
        documents[part][file].update(values)

    return alter


def without(part: str, file: str, key: str, name: str) -> Alteration:
    def alter(documents: Documents) -> None:
        del documents[part][file][key][name]

    return alter


@pytest.mark.parametrize("installed", [(release(NEXT),), (release("cpq-oms-2026.11.27-099"), release(NEXT))])
def test_a_release_that_any_host_is_ahead_of_is_refused_until_live_data_was_asked(
    installed: tuple[Described, ...],
) -> None:
    former = bundle(release_id=OLD)

    def rules(way_back_to: str) -> dict[str, str]:
        made = plan(former, live(), around(*installed, way_back_to=way_back_to), STEPS)
        return {each.rule: f"{each.what}. {each.remedy}" for each in made.refusals}

    refusal = rules("")["rollback-without-verdict"]
    assert f"{OLD} was made before {NEXT}" in refusal
    assert f"rollback.yml -i ENV -e rollback_to={OLD}" in refusal
    assert "rollback-without-verdict" in rules(NEXT), "the verdict was on another release"
    assert rules(OLD) == {}


def test_a_way_back_that_was_proven_leaves_a_process_that_no_order_has_without_workers() -> None:
    idle, busy = (ReachedProcess(f"order-v{live}", ["notify"], [1], ["route"], live) for live in (0, 3))
    installed = release(NEXT)

    def rules(process: ReachedProcess, way_back_to: str) -> list[str]:
        around_it = around(installed, way_back_to=way_back_to)
        made = plan(bundle(release_id=OLD), live(reached=(process,)), around_it, STEPS)
        return [each.rule for each in made.refusals]

    assert rules(idle, OLD) == []
    assert rules(busy, OLD) == ["job-type-still-reached"]
    assert "job-type-still-reached" in rules(idle, "")


def test_nothing_new_is_refused_nothing() -> None:
    assert refused(bundle()) == []


# -- BPMN and its workers


def test_a_process_is_refused_whose_job_type_has_no_worker_in_the_bundle() -> None:
    added = process("order-v2", "two", job_types=("reserve", "notify"))

    assert refused(bundle(processes=(*PROCESSES, added))) == [
        ("bpmn-before-workers", "job type notify of order-v2.bpmn has no worker in the bundle")
    ]


def test_workers_that_are_alive_do_not_count_for_a_process_that_is_deployed_after_they_are_replaced() -> None:
    added = process("order-v2", "two", job_types=("reserve", "notify"))
    worker = LiveWorker("worker-1", "fulfillment", ["notify"], [1], OLD)

    assert [rule for rule, _ in refused(bundle(processes=(*PROCESSES, added)), live(workers=(worker,)))] == [
        "bpmn-before-workers"
    ]


def test_a_process_is_refused_whose_variables_the_bundles_workers_do_not_understand() -> None:
    added = process("order-v2", "two", variables_schema_version=2)

    assert refused(bundle(processes=(*PROCESSES, added))) == [
        (
            "bpmn-before-workers",
            "order-v2.bpmn has version 2 of its variables, which the bundle's workers do not understand",
        )
    ]


def test_a_process_is_refused_that_needs_later_workers_than_the_bundle_has() -> None:
    added = process("order-v2", "two", oldest_compatible_worker="cpq-oms-2026.12.01-001")

    assert refused(bundle(processes=(*PROCESSES, added))) == [
        (
            "bpmn-before-workers",
            "order-v2.bpmn needs workers of cpq-oms-2026.12.01-001 or later, and the bundle's are older",
        )
    ]


def test_a_new_process_is_refused_in_a_bundle_without_workers() -> None:
    added = process("order-v2", "two")

    assert refused(bundle(units=("admin", "api"), processes=(*PROCESSES, added))) == [
        ("bpmn-before-workers", "the bundle brings order-v2 and no workers")
    ]
    assert refused(bundle(units=("admin", "api"))) == []


def test_a_job_type_is_refused_to_go_while_orders_can_still_reach_it() -> None:
    dropping = bundle(without("job_types", "job_types.yml", "job_types", "provision"), processes=())
    reached = ReachedProcess("order-v1", ["reserve", "provision"], [1], ["route-1"], 3)

    [(rule, what)] = refused(dropping, live(reached=(reached,)))
    assert rule == "job-type-still-reached"
    assert what.startswith(
        "job type provision is still reached by order-v1 (route route-1, 3 live or pending instances)"
    )
    assert refused(dropping, live(reached=())) == []


# -- producers and consumers


def test_an_event_is_refused_that_consumers_of_before_cannot_take() -> None:
    narrowed = at("events", "order.v1.schema.json", required=["orderId", "state"])

    [(rule, what)] = refused(bundle(narrowed))

    assert rule == "producer-before-consumers"
    assert what.startswith("event order.v1.schema.json state: is required now")


def test_an_event_that_grew_by_what_consumers_pass_over_is_let_pass() -> None:
    def grow(documents: Documents) -> None:
        documents["events"]["order.v1.schema.json"]["properties"]["channel"] = {"type": "string"}

    assert refused(bundle(grow)) == []


def test_a_topic_is_refused_to_become_another_one() -> None:
    [(rule, what)] = refused(bundle(at("topics", "orders.v1.yml", partition_key="tenantId")))

    assert rule == "producer-before-consumers"
    assert what == "topic orders.v1 partition_key: is set otherwise"


# -- what breaks


def test_an_operation_is_refused_to_go_without_a_later_version_beside_it() -> None:
    [(rule, what)] = refused(bundle(without("openapi", "openapi.yml", "paths", "/v1/orders")))

    assert rule == "breaking-without-parallel-version"
    assert what.startswith("api /paths/~1v1~1orders/get: is gone")


def moved(documents: Documents, sunset: str | None) -> None:
    """Orders are served at a later version, and the one before says until when."""
    paths = documents["openapi"]["openapi.yml"]["paths"]
    paths["/v2/orders"] = {"get": {**paths["/v1/orders"]["get"]}}
    paths["/v1/orders"]["get"] = {**paths["/v1/orders"]["get"], "deprecated": True}
    if sunset is not None:
        paths["/v1/orders"]["get"]["x-sunset"] = sunset


@pytest.mark.parametrize(
    ("sunset", "what"),
    [
        (None, "goes without a date that its clients were told"),
        ("2026-12-24", "clients were told that it stays until 2026-12-24"),
        ("2026-11-29", None),
    ],
)
def test_a_deprecated_operation_goes_when_the_date_has_come_that_clients_were_told(
    sunset: str | None, what: str | None
) -> None:
    before = release(OLD, lambda documents: moved(documents, sunset))
    after = bundle(lambda documents: moved(documents, sunset), without("openapi", "openapi.yml", "paths", "/v1/orders"))

    expected = [] if what is None else [("deprecation-window", f"api /paths/~1v1~1orders/get: {what}")]
    assert refused(after, None, before) == expected


def test_a_version_of_variables_is_refused_to_change() -> None:
    [(rule, what)] = refused(bundle(at("variables", "order.v1.schema.json", type="array")))

    assert rule == "breaking-without-parallel-version"
    assert what.startswith("variables order.v1.schema.json: /type: changed")


def test_a_version_of_redis_values_is_refused_to_be_used_again() -> None:
    def lower(documents: Documents) -> None:
        documents["redis_keys"]["redis_keys.yml"]["keys"]["offering"]["value_version"] = 1

    assert refused(bundle(lower)) == [
        ("redis-version-reused", "redis-key offering value_version: was used before, for another form")
    ]


def test_a_flag_is_refused_another_type() -> None:
    def retype(documents: Documents) -> None:
        documents["flags"]["feature_flags.yml"]["flags"]["fast-start"]["type"] = "text"

    assert [rule for rule, _ in refused(bundle(retype))] == ["breaking-without-parallel-version"]


def test_a_setting_is_refused_that_the_inventory_does_not_give() -> None:
    def require(documents: Documents) -> None:
        settings = documents["settings"]["settings.json"]["api"]
        settings["API_LIMIT"] = settings["API_WORKERS"]

    assert [rule for rule, _ in refused(bundle(require))] == ["setting-not-in-inventory"]


# -- migrations

CHANNEL = MIGRATIONS[1].name
CONTRACT = Migration("0004_contract_channel", "contract", "sha-4", Header(replaced_by=CHANNEL))


def contracting(*added: Migration) -> Bundle:
    return bundle(release_id=NEW, migrations=(*MIGRATIONS, *added))


def test_a_contract_migration_is_refused_beside_the_expand_migration_it_follows() -> None:
    there = live(migrations={MIGRATIONS[0].name: Applied("sha-1", OLD)})

    assert refused(contracting(CONTRACT), there) == [
        (
            "contract-before-nobody-needs-the-old",
            f"{CONTRACT.name}: {CHANNEL}, which brings what replaces the old structures, is not applied yet",
        )
    ]


def test_a_contract_migration_is_refused_while_a_release_runs_that_may_look_at_the_old() -> None:
    """OLD brought the new structures, so its own code writes both."""
    what = f"{CONTRACT.name}: {OLD} still runs, which may look at the old structures: {OLD} brought {CHANNEL}"

    assert refused(contracting(CONTRACT)) == [("contract-before-nobody-needs-the-old", what)]


def test_a_contract_migration_is_refused_for_one_worker_that_was_left_behind() -> None:
    worker = LiveWorker("worker-2", "fulfillment", ["reserve"], [1], OLD)
    switched = release(NEXT)

    assert refused(contracting(CONTRACT), None, switched) == []
    assert [rule for rule, _ in refused(contracting(CONTRACT), live(workers=(worker,)), switched)] == [
        "contract-before-nobody-needs-the-old"
    ]


def test_a_contract_migration_is_refused_before_the_backfill_is_done() -> None:
    backfill = Migration("0003_backfill_channel", "backfill", "sha-3")

    assert refused(contracting(backfill, CONTRACT), None, release(NEXT)) == [
        ("contract-before-nobody-needs-the-old", f"{CONTRACT.name}: the backfill {backfill.name} has not been done")
    ]


def test_a_contract_migration_is_refused_that_does_not_say_what_it_follows() -> None:
    silent = Migration(CONTRACT.name, "contract", "sha-4")

    assert refused(contracting(silent), None, release(NEXT)) == [
        (
            "contract-before-nobody-needs-the-old",
            f"{CONTRACT.name}: does not say what replaces the structures it removes",
        )
    ]


def test_a_contract_migration_is_refused_in_a_bundle_of_a_generation_that_needs_the_old() -> None:
    asking = Migration(CONTRACT.name, "contract", "sha-4", Header(replaced_by=CHANNEL, last_needed_by=5))

    assert refused(contracting(asking), None, release(NEXT)) == [
        (
            "contract-before-nobody-needs-the-old",
            f"{CONTRACT.name}: generation 5 needs what it removes, and the bundle is of generation 5",
        )
    ]
    before = Migration(CONTRACT.name, "contract", "sha-4", Header(replaced_by=CHANNEL, last_needed_by=4))
    assert refused(contracting(before), None, release(NEXT)) == []


def test_an_expand_migration_is_refused_before_the_backfill_that_it_needs() -> None:
    backfill = Migration("0003_backfill_channel", "backfill", "sha-3")
    tight = Migration("0004_expand_tight", "expand", "sha-4", Header(needs=(backfill.name,)))
    done = {each.name: Applied(each.content_sha256, OLD) for each in (*MIGRATIONS, backfill)}

    assert refused(contracting(backfill, tight), None, release(NEXT)) == [
        ("backfill-before-who-needs-it", f"{tight.name} needs {backfill.name}, which has not been done")
    ]
    assert refused(contracting(backfill, tight), live(migrations=done), release(NEXT)) == []


def test_an_applied_migration_is_refused_another_content() -> None:
    edited = (MIGRATIONS[0], Migration(CHANNEL, "expand", "sha-other"))

    assert refused(bundle(migrations=edited)) == [
        ("migration-edited", f"{CHANNEL} was applied with another content by {OLD}")
    ]


def test_no_release_goes_back_behind_a_contract_migration_that_it_does_not_know() -> None:
    applied = {each.name: Applied(each.content_sha256, OLD) for each in MIGRATIONS}
    expanded, contracted = Applied("sha", NEXT), Applied("sha-4", NEXT)

    assert refused(bundle(), live(migrations={**applied, "0003_expand_more": expanded})) == []
    assert refused(bundle(), live(migrations={**applied, CONTRACT.name: contracted})) == [
        ("old-is-gone", f"{CONTRACT.name}, which {NEXT} applied, took away what this bundle may look for")
    ]
    assert refused(contracting(CONTRACT), live(migrations={**applied, CONTRACT.name: contracted})) == []


# -- the path from release to release


@pytest.mark.parametrize(("theirs", "mine", "between"), [(5, 7, 6), (5, 9, 6), (5, 3, 4)])
def test_a_generation_is_not_left_out(theirs: int, mine: int, between: int) -> None:
    made = plan(bundle(generation(mine)), live(), around(release(OLD, generation(theirs))), STEPS)

    [refusal] = made.refusals
    assert refusal.rule == "release-path"
    assert refusal.what == f"{OLD} is of generation {theirs}, the bundle of generation {mine}"
    assert f"generation {between} " in refusal.remedy


@pytest.mark.parametrize(("theirs", "mine"), [(5, 5), (5, 6), (5, 4)])
def test_a_generation_and_the_one_beside_it_follow_one_another(theirs: int, mine: int) -> None:
    assert refused(bundle(generation(mine)), None, release(OLD, generation(theirs))) == []


def test_one_host_that_was_left_two_generations_behind_is_enough() -> None:
    behind = release("cpq-oms-2026.10.01-001", generation(5))

    assert [rule for rule, _ in refused(bundle(generation(7)), None, behind, release(OLD, generation(6)))] == [
        "release-path"
    ]


def test_a_release_of_before_there_were_generations_is_of_the_first() -> None:
    def forget(documents: Documents) -> None:
        del documents["path"]

    assert refused(bundle(generation(2)), None, release(OLD, forget)) == []
    assert [rule for rule, _ in refused(bundle(generation(3)), None, release(OLD, forget))] == ["release-path"]


def test_a_first_release_has_nobody_to_break() -> None:
    first = plan(bundle(generation(9)), Live(), around(installed=()), STEPS)

    assert first.refusals == ()
    assert {change.kind for change in first.changes} == {"unit", "expand", "process"}
