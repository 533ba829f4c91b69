"""Whether there is a way back, by what a release changes and by what live data says; and the two pages that are kept."""

from __future__ import annotations

import re

import pytest

from app.application.process_versions import ReachedProcess
from app.application.release_plan.described import Bundle, Live, Migration
from app.application.release_plan.model import Ground, Plan, Way
from app.application.release_plan.planner import plan
from app.contracts.compatibility.finding import Level
from app.contracts.loader import load_release_steps
from tests.support.releases import (
    MIGRATIONS,
    NEW,
    OLD,
    PROCESSES,
    Documents,
    around,
    bundle,
    live,
    process,
    release,
)
from tests.unit.application.release_plan.test_steps import (
    api_field,
    event_field,
    flag,
    job_type,
    new_topic,
    redis_key,
    setting,
)

STEPS = load_release_steps()
EMITTING = process("order-v2", "two", job_types=("reserve", "notify"))


def made(what: Bundle, there: Live | None = None) -> Plan:
    return plan(
        what,
        there or live(),
        around(given={"api": ("API_WORKERS", "API_LIMIT")}, window="Sunday 06:00", approvers="otto"),
        STEPS,
    )


def ground(planned: Plan, words: str) -> Ground:
    [found] = [each for each in planned.verdict.grounds if words in each.because]
    return found


def new_state(documents: Documents) -> None:
    documents["events"]["order.v1.schema.json"]["properties"]["state"]["enum"] = ["done", "held"]


def new_answer(documents: Documents) -> None:
    get = documents["openapi"]["openapi.yml"]["paths"]["/v1/orders"]["get"]
    documents["openapi"]["openapi.yml"]["paths"]["/v1/items"] = {"get": get}


def open_answer(documents: Documents, *states: str) -> None:
    """Answers say in which state an order is, and clients promised to take others."""
    get = documents["openapi"]["openapi.yml"]["paths"]["/v1/orders"]["get"]
    schema = get["responses"]["200"]["content"]["application/json"]["schema"]
    schema["properties"]["state"] = {"type": "string", "enum": [*states], "x-open": True}


def default_flag(documents: Documents) -> None:
    documents["flags"]["feature_flags.yml"]["flags"]["fast-start"]["default"] = True


def given_setting(documents: Documents) -> None:
    settings = documents["settings"]["settings.json"]["api"]
    settings["API_LIMIT"] = settings["API_WORKERS"]


@pytest.mark.parametrize(
    "what",
    [
        bundle(),
        bundle(setting),
        bundle(flag),
        bundle(redis_key),
        bundle(event_field),
        bundle(job_type),
        bundle(migrations=(*MIGRATIONS, Migration("0003_expand_x", "expand", "sha"))),
        bundle(processes=(*PROCESSES, process("order-v2", "two"))),
    ],
)
def test_there_is_a_way_back_where_the_release_before_lives_with_what_is_left(what: Bundle) -> None:
    planned = made(what)

    assert planned.verdict.way is Way.POSSIBLE
    assert all(each.way is Way.POSSIBLE for each in planned.verdict.grounds)


@pytest.mark.parametrize(
    ("what", "because", "ask"),
    [
        (bundle(new_answer), "clients that use what is new", "access log"),
        (bundle(new_topic), "what is published stays unread", "outbox_event"),
        (bundle(new_state), "a value is new", "How many orders and quotes have it?"),
        (bundle(default_flag), "behaviour changes", "flags history"),
        (bundle(given_setting), "the inventory does not suit the release before", "inventory of the release before"),
        (
            bundle(migrations=(*MIGRATIONS, Migration("0003_backfill_x", "backfill", "s"))),
            "changes data",
            "migrate backfill --plan",
        ),
        (
            bundle(migrations=(*MIGRATIONS, Migration("0003_contract_x", "contract", "s"))),
            "removes what the release before looks at",
            "migrate plan",
        ),
        (bundle(job_type, processes=(*PROCESSES, EMITTING)), "until an order is routed to it", "processes status"),
    ],
)
def test_a_condition_says_what_has_to_be_asked(what: Bundle, because: str, ask: str) -> None:
    planned = made(what)

    asked = next(each for each in planned.verdict.grounds if because in each.because)
    assert planned.verdict.way is Way.CONDITIONAL
    assert asked.way is Way.CONDITIONAL
    assert ask in asked.ask
    assert planned.template["rollback possible"] == "conditional"
    assert asked.ask in planned.template["rollback steps"]


def test_one_order_on_a_process_that_workers_of_before_do_not_serve_ends_the_way_back() -> None:
    what = bundle(job_type, processes=(*PROCESSES, EMITTING))
    none = ReachedProcess("order-v2", ["reserve", "notify"], [1], [], 0)
    one = ReachedProcess("order-v2", ["reserve", "notify"], [1], [], 1)

    before, after = made(what, live(reached=(none,))), made(what, live(reached=(one,)))

    assert (before.verdict.way, ground(before, "order-v2").answer) == (Way.CONDITIONAL, "0 live or pending")
    assert (after.verdict.way, ground(after, "order-v2").answer) == (Way.FORWARD_ONLY, "1 live or pending")
    assert after.verdict.grounds[0].because.startswith("1 instances of order-v2 run")
    assert after.template["rollback possible"] == "no"
    assert after.template["rollback steps"] == "none: go on to a corrected release"


def test_a_first_release_has_no_way_back() -> None:
    planned = plan(bundle(), Live(), around(installed=()), STEPS)

    assert planned.verdict.way is Way.FORWARD_ONLY
    assert planned.template["rollback steps"] == "none: no other release is installed"


def test_the_rollback_plan_has_every_line_of_the_template() -> None:
    what = bundle(
        redis_key, event_field, job_type, migrations=(*MIGRATIONS, Migration("0003_expand_x", "expand", "sha"))
    )

    filled = made(what).template

    assert list(filled) == [
        "release id",
        "components changed",
        "database migration",
        "bpmn changed",
        "kafka topic/schema changed",
        "redis key changed",
        "rollback possible",
        "rollback steps",
        "roll-forward steps",
        "data repair needed",
        "validation after rollback/forward",
        "owner",
    ]
    assert all(filled.values())
    assert filled["release id"] == NEW
    assert filled["components changed"] == "admin, api, callback, console, consumer, relay, worker"
    assert filled["database migration"] == "0003_expand_x"
    assert filled["bpmn changed"] == "notify"
    assert filled["kafka topic/schema changed"] == "order.v1.schema.json channel"
    assert filled["redis key changed"] == "offering value_version"
    assert filled["rollback steps"].startswith(f"release the bundle of {OLD}: ")
    assert filled["data repair needed"] == "none"
    assert filled["owner"] == "erika"


def test_the_runbook_has_every_heading_and_line_and_only_what_this_release_does() -> None:
    page = made(bundle(api_field)).runbook

    assert list(page) == [
        "Release",
        "Window",
        "Owner",
        "Approvers",
        "Pre-check",
        "Steps",
        "Rollback / roll-forward",
        "Post-check",
    ]
    assert (page["Window"], page["Approvers"]) == (("Sunday 06:00",), ("otto",))
    numbered = [line for line in page["Steps"] if re.match(r"[0-9]+\. ", line)]
    assert [line.partition(". ")[0] for line in numbered] == [str(number) for number in range(1, 11)]
    nothing = {numbered[number - 1] for number in (2, 6, 7)}
    following = {line: page["Steps"][place + 1].strip() for place, line in enumerate(page["Steps"][:-1])}
    assert {line for line in numbered if following[line] == "nothing in this release"} == nothing
    assert following["10. Expand rollout."] == "Let clients use what is new in the API."
    assert [line.partition(":")[0] for line in page["Rollback / roll-forward"]] == ["condition", "steps", "validation"]


def test_a_state_that_answers_did_not_have_before_is_asked_for_in_the_orders() -> None:
    before = release(OLD, lambda documents: open_answer(documents, "done"))
    after = bundle(lambda documents: open_answer(documents, "done", "held"))

    planned = plan(after, live(), around(before), STEPS)

    [found] = [each for each in planned.verdict.grounds if "a state is new" in each.because]
    assert (found.way, planned.verdict.way) == (Way.CONDITIONAL, Way.CONDITIONAL)
    assert found.ask.startswith("How many orders and quotes have it?")


def test_each_interface_is_told_by_the_worst_of_its_differences_in_both_directions() -> None:
    planned = made(bundle(event_field, new_state, setting))

    told = {each.interface: (each.differences, each.forward, each.backward) for each in planned.compatibility}
    assert told == {
        "topics": (0, Level.COMPATIBLE, Level.COMPATIBLE),
        "events": (2, Level.READERS, Level.BREAKING),
        "variables": (0, Level.COMPATIBLE, Level.COMPATIBLE),
        "openapi": (0, Level.COMPATIBLE, Level.COMPATIBLE),
        "settings": (1, Level.COMPATIBLE, Level.COMPATIBLE),
    }


def test_an_interface_that_a_release_of_before_does_not_lay_open_is_not_judged() -> None:
    def forget(documents: Documents) -> None:
        del documents["settings"]

    planned = plan(bundle(), live(), around(release(OLD, forget)), STEPS)

    [settings] = [each for each in planned.compatibility if each.interface == "settings"]
    assert (settings.forward, settings.backward) == (None, None)
    assert plan(bundle(), Live(), around(installed=()), STEPS).compatibility == ()
