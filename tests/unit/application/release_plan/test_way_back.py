"""Whether there is a way back after the fact: each ground with what live data says, and what a release that mends must keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from app.application.process_versions import ReachedProcess
from app.application.release_plan.described import Applied, Bundle, Live, Migration
from app.application.release_plan.model import Answer, Asked, Ground, Question, Verdict, Way
from app.application.release_plan.way_back import WayBack, judged, roll_forward, way_back
from app.contracts.compatibility.finding import Level
from tests.support.releases import MIGRATIONS, NEW, OLD, Alteration, Documents, around, bundle, live, release

ORDERS = tuple(f"019ad0c4-0000-7000-8000-{number:012}" for number in range(10))
WHO = "clients were told, erika"


def job_type(documents: Documents) -> None:
    documents["job_types"]["job_types.yml"]["job_types"]["notify"] = {"group": "fulfillment"}


def known_process(documents: Documents) -> None:
    processes = documents["processes"]["processes.yml"]["processes"]
    processes["order-v2"] = {**processes["order-v1"], "file": "order-v2.bpmn"}


def new_topic(documents: Documents) -> None:
    documents["topics"]["orders.v2.yml"] = {
        **documents["topics"]["orders.v1.yml"],
        "name": "orders.v2",
        "schema": "order.v2.schema.json",
    }
    documents["events"]["order.v2.schema.json"] = documents["events"]["order.v1.schema.json"]


def new_schema(documents: Documents) -> None:
    documents["events"]["order.v2.schema.json"] = documents["events"]["order.v1.schema.json"]


def enumerated(name: str, *values: str, field: str = "state") -> Alteration:
    def alter(documents: Documents) -> None:
        documents["events"].setdefault(name, {"type": "object", "properties": {}})
        documents["events"][name]["properties"][field] = {"type": "string", "enum": list(values), "x-open": True}

    return alter


def answering(*states: str, field: str = "state") -> Alteration:
    def alter(documents: Documents) -> None:
        get = documents["openapi"]["openapi.yml"]["paths"]["/v1/orders"]["get"]
        schema = get["responses"]["200"]["content"]["application/json"]["schema"]
        schema["properties"][field] = {"type": "string", "enum": list(states), "x-open": True}

    return alter


def api_item(documents: Documents) -> None:
    paths = documents["openapi"]["openapi.yml"]["paths"]
    paths["/v1/items"] = {"get": paths["/v1/orders"]["get"]}


def default_flag(documents: Documents) -> None:
    documents["flags"]["feature_flags.yml"]["flags"]["fast-start"]["default"] = True


def former(*alterations: Alteration, migrations: tuple[Migration, ...] | None = MIGRATIONS) -> Bundle:
    return bundle(*alterations, release_id=OLD, processes=(), migrations=migrations)


def found(
    *alterations: Alteration,
    before: Bundle | None = None,
    own: tuple[Migration, ...] = MIGRATIONS,
    there: Live | None = None,
    given: Mapping[str, tuple[str, ...]] | None = None,
) -> WayBack:
    """What stands between a release that was altered and the one before it."""
    running = release(NEW, *alterations)
    return way_back(before or former(), [running], own, there or live(), around(running, given=given))


def reaching(*processes: ReachedProcess) -> Live:
    return live(reached=processes)


UNSERVED = ReachedProcess("order-v2", ["reserve", "notify"], [1], [], 0)
OTHER_VARIABLES = ReachedProcess("order-v2", ["reserve"], [2], [], 0)
SERVED = ReachedProcess("order-v2", ["reserve"], [1], [], 0)


def applied(name: str) -> Live:
    was = live()
    return live(migrations={**(was.migrations or {}), name: Applied("sha", NEW)})


def asked(verdict: Verdict, question: Question) -> set[tuple[Way, str]]:
    """Ways and answers of the grounds that one question decides: those of a topic and of its schema share one."""
    return {(each.way, each.answer) for each in verdict.grounds if each.question == question}


Case = tuple[Callable[[], WayBack], Question, str]
CASES: dict[str, Case] = {
    "process with a job type of its own": (
        lambda: found(job_type, there=reaching(UNSERVED)),
        Question(Asked.LIVE_ORDERS, ("order-v2",)),
        "serve order-v2: reserve, notify, variables 1",
    ),
    "process with variables of its own": (
        lambda: found(there=reaching(OTHER_VARIABLES)),
        Question(Asked.LIVE_ORDERS, ("order-v2",)),
        "serve order-v2: reserve, variables 2",
    ),
    "process that workers serve and nobody would start": (
        lambda: found(known_process, there=reaching(SERVED)),
        Question(Asked.PENDING_ORDERS, ("order-v2",)),
        "serve order-v2: reserve, variables 1",
    ),
    "job type": (
        lambda: found(job_type),
        Question(Asked.OPEN_STEPS, ("notify",)),
        "serve notify",
    ),
    "topic": (
        lambda: found(new_topic),
        Question(Asked.EVENTS_ON_TOPICS, ("orders.v2",)),
        "take what topic orders.v2 has brought",
    ),
    "type of event": (
        lambda: found(
            enumerated("order.v1.schema.json", "OrderDone", "OrderHeld", field="eventType"),
            before=former(enumerated("order.v1.schema.json", "OrderDone", field="eventType")),
        ),
        Question(Asked.EVENTS_OF_TYPES, ("OrderHeld",)),
        "take what event order.v1.schema.json eventType has brought",
    ),
    "value of an event": (
        lambda: found(
            enumerated("order.v1.schema.json", "web", "shop", field="channel"),
            before=former(enumerated("order.v1.schema.json", "web", field="channel")),
        ),
        Question(Asked.EVENTS_WITH_VALUES, ("shop",), "channel"),
        "take what event order.v1.schema.json channel has brought",
    ),
    "state of an event": (
        lambda: found(enumerated("order.v1.schema.json", "done", "held")),
        Question(Asked.STATES, ("held",)),
        "take what event order.v1.schema.json state has brought",
    ),
    "state of something that PostgreSQL has no state of": (
        lambda: found(
            enumerated("shop.v1.schema.json", "open", "shut"),
            before=former(enumerated("shop.v1.schema.json", "open")),
        ),
        Question(Asked.EVENTS_WITH_VALUES, ("shut",), "state"),
        "take what event shop.v1.schema.json state has brought",
    ),
    "state that the API answers": (
        lambda: found(answering("done", "held"), before=former(answering("done"))),
        Question(Asked.STATES, ("held",)),
        "has brought",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_it_in_live_data_leaves_the_way_back_open(name: str) -> None:
    make, question, _ = CASES[name]
    way = make()

    verdict = judged(way.verdict, dict.fromkeys(way.questions, Answer(0)))

    assert asked(way.verdict, question) == {(Way.CONDITIONAL, "")}
    assert asked(verdict, question) == {(Way.POSSIBLE, "none")}
    assert verdict.way is Way.POSSIBLE


@pytest.mark.parametrize("name", CASES)
def test_one_of_it_in_live_data_ends_the_way_back_with_count_and_id(name: str) -> None:
    make, question, keep = CASES[name]
    way = make()
    answers: dict[Question, Answer | None] = {
        **dict.fromkeys(way.questions, Answer(0)),
        question: Answer(1, ORDERS[:1]),
    }

    verdict = judged(way.verdict, answers, WHO)

    assert verdict.way is Way.FORWARD_ONLY
    assert asked(verdict, question) == {(Way.FORWARD_ONLY, f"1: {ORDERS[0]}")}
    assert any(keep in line for line in roll_forward(verdict, NEW))


def test_a_route_to_what_the_former_does_not_serve_has_to_go_first() -> None:
    routed = ReachedProcess("order-v2", ["reserve", "notify"], [1], ["route-7"], 0)
    way = found(there=reaching(routed))

    verdict = judged(way.verdict, dict.fromkeys(way.questions, Answer(0)), WHO)

    assert verdict.way is Way.FORWARD_ONLY
    assert verdict.grounds[0].answer.startswith("route-7: cpq-oms-admin processes route remove")
    assert way.unserved == ("order-v2",)
    assert found(known_process, there=reaching(SERVED)).unserved == ()


def test_a_version_of_a_redis_key_that_was_before_is_no_reuse_to_who_goes_back() -> None:
    def redis_key(documents: Documents) -> None:
        documents["redis_keys"]["redis_keys.yml"]["keys"]["offering"]["value_version"] = 3

    way = found(redis_key)

    assert way.verdict.way is Way.POSSIBLE
    assert [each.forward for each in way.changes if each.kind == "redis-key"] == [Level.COMPATIBLE]


def test_of_many_the_first_are_named() -> None:
    way = found(there=reaching(UNSERVED))

    verdict = judged(way.verdict, dict.fromkeys(way.questions, Answer(4711, ORDERS)))

    assert verdict.grounds[0].answer == f"4711: {', '.join(ORDERS)}, …"


def test_a_count_that_does_not_end_is_no_way_back_and_nobody_can_answer_for_it() -> None:
    way = found(job_type)

    verdict = judged(way.verdict, dict.fromkeys(way.questions), WHO)

    assert verdict.way is Way.CONDITIONAL
    assert verdict.grounds[0].answer == "could not be counted within the statement timeout"


@pytest.mark.parametrize(
    ("way", "because"),
    [
        (lambda: found(api_item), "clients that use what is new are refused"),
        (lambda: found(default_flag), "behaviour changes"),
        (lambda: found(answering("a", "b", field="kind"), before=former(answering("a", field="kind"))), "kind/enum"),
        (lambda: found(new_schema), "is not known to the release before"),
        (lambda: found(own=(*MIGRATIONS, Migration("0003_backfill_x", "backfill", "s"))), "whether it was begun"),
        (lambda: found(before=former(migrations=None)), "from before bundles held migrations"),
    ],
)
def test_what_no_data_knows_needs_a_person_who_answers_for_it(way: Callable[[], WayBack], because: str) -> None:
    made = way()
    answers: dict[Question, Answer | None] = dict.fromkeys(made.questions, Answer(0))

    alone, attested = judged(made.verdict, answers), judged(made.verdict, answers, WHO)

    def of(verdict: Verdict) -> Ground:
        [ground] = [each for each in verdict.grounds if because in each.because]
        return ground

    assert (alone.way, of(alone).answer) == (Way.CONDITIONAL, "cannot be known from data")
    assert (attested.way, of(attested).answer) == (Way.POSSIBLE, f"cannot be known from data; attested: {WHO}")


@pytest.mark.parametrize(
    ("begun", "way"), [({}, Way.POSSIBLE), ({"0003_backfill_x": "begun by ana, 40 rows so far"}, Way.FORWARD_ONLY)]
)
def test_a_backfill_ends_the_way_back_when_it_is_begun_and_not_before(begun: dict[str, str], way: Way) -> None:
    made = found(own=(*MIGRATIONS, Migration("0003_backfill_x", "backfill", "s")), there=live(begun=begun))

    verdict = judged(made.verdict, {}, WHO)

    assert verdict.way is way
    [ground] = [each for each in verdict.grounds if "0003_backfill_x" in each.because]
    assert ground.answer == begun.get("0003_backfill_x", "")


@pytest.mark.parametrize("phase", ["backfill", "contract"])
def test_data_that_was_changed_since_ends_the_way_back_whoever_answers_for_it(phase: str) -> None:
    name = f"0003_{phase}_x"
    way = found(own=(*MIGRATIONS, Migration(name, phase, "s")), there=applied(name))

    verdict = judged(way.verdict, {}, WHO)

    assert verdict.way is Way.FORWARD_ONLY
    assert verdict.grounds[0].because.startswith(name)
    assert verdict.grounds[0].answer == f"applied by {NEW}"
    assert any(f"read what {name} left" in line for line in roll_forward(verdict, NEW))


@pytest.mark.parametrize(
    "way",
    [
        found,
        lambda: found(there=applied("0003_expand_x")),
        lambda: found(own=(*MIGRATIONS, Migration("0003_contract_x", "contract", "s"))),
        lambda: found(known_process, there=reaching(SERVED), before=former(known_process)),
    ],
)
def test_what_the_former_lives_with_is_asked_nobody(way: Callable[[], WayBack]) -> None:
    made = way()

    assert made.questions == ()
    assert made.verdict.way is Way.POSSIBLE


def test_what_an_expand_migration_brought_stays_and_is_told_once_it_is_applied() -> None:
    name = "0003_expand_x"
    own = (*MIGRATIONS, Migration(name, "expand", "s"))

    there, pending = found(own=own, there=applied(name)), found(own=own)

    assert (Way.POSSIBLE, f"{name} stays in the database; {OLD} runs on it") in {
        (each.way, each.because) for each in there.verdict.grounds
    }
    assert [(each.name, each.backward) for each in there.changes if each.kind == "expand"] == [(name, Level.COMPATIBLE)]
    assert not [each for each in pending.changes if each.kind == "expand"]


def test_an_inventory_that_does_not_suit_the_former_has_to_go_back_with_it() -> None:
    def given_setting(documents: Documents) -> None:
        settings = documents["settings"]["settings.json"]["api"]
        settings["API_LIMIT"] = settings["API_WORKERS"]

    given = {"api": ("API_WORKERS", "API_LIMIT")}

    verdict = judged(found(given_setting, given=given).verdict, {}, WHO)

    assert verdict.way is Way.FORWARD_ONLY
    assert verdict.grounds[0].because == f"setting api/API_LIMIT: the inventory does not suit {OLD}"


def test_an_environment_that_does_not_say_what_it_has_is_not_judged() -> None:
    with pytest.raises(ValueError, match="has to be known"):
        found(there=live(reached=None))
    with pytest.raises(ValueError, match="has to be known"):
        found(there=live(migrations=None))
