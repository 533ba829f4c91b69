"""Who stands against a contract migration: each of those who can speak an old form is named with its remedy, and nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.application.contract_phase import (
    Session,
    SpeakerKind,
    Speech,
    StandbyState,
    TopicState,
    questions,
    speakers,
)
from app.application.migration_header import Removed
from app.application.process_versions import LiveWorker, ReachedProcess
from app.application.release_plan.described import migration
from app.application.release_plan.model import Answer, Asked, Question

OLD, OWN, LATER = "cpq-oms-2026.11.28-100", "cpq-oms-2026.11.29-101", "cpq-oms-2026.11.30-001"
CONTRACT = migration(
    "0032_contract_remark",
    """-- removes: column cpq.quote.remark
-- removes: process order-v1
-- removes: variables 1
-- removes: topic orders.v1
-- removes: redis-value offering 1
-- last-needed-by: generation 3
""",
    "sha",
)
OFFERING = Removed("redis-value", "offering 1")
LIVE = Question(Asked.LIVE_ORDERS, ("order-v1", "other-v1"))
WAITING = Question(Asked.WAITING_EVENTS, ("orders.v1",))
CARRIES = ReachedProcess("other-v1", ["reserve"], [1], [], 0)
SILENT = Speech(
    sessions=(Session(11, "cpq_api", f"api-1/{OWN}"), Session(12, "cpq_worker", f"worker-1/{LATER}")),
    workers=(LiveWorker("worker-1", "fulfillment", ["reserve"], [2], OWN),),
    reached=(CARRIES, ReachedProcess("order-v2", ["reserve"], [2], ["route-9"], 5)),
    answers={LIVE: Answer(0), WAITING: Answer(0)},
    topics={"orders.v1": TopicState(0, {"projection": 0})},
    keys={OFFERING: Answer(0)},
    standbys=StandbyState({"db2:5432": 0}, 1),
)
ROUTED = ReachedProcess("order-v1", ["reserve"], [1], ["route-1"], 0)


def test_nobody_is_named_where_nobody_speaks() -> None:
    assert questions([CONTRACT], SILENT.reached) == (LIVE, WAITING)
    assert speakers(CONTRACT, OWN, 4, SILENT) == []


@pytest.mark.parametrize(
    ("change", "kind", "who"),
    [
        ({"release": f"{LATER} by ana"}, SpeakerKind.RELEASE, f"{LATER} by ana"),
        ({"sessions": (Session(7, "cpq_api", f"api-2/{OLD}"),)}, SpeakerKind.SESSION, f"api-2/{OLD} (backend 7, role cpq_api)"),
        ({"sessions": (Session(7, "cpq_admin", "psql"),)}, SpeakerKind.SESSION, "psql (backend 7, role cpq_admin) says no release"),
        ({"sessions": (Session(7, "cpq_api", "api-2/checkout"),)}, SpeakerKind.SESSION, "api-2/checkout (backend 7, role cpq_api)"),
        ({"workers": (LiveWorker("worker-2", "fulfillment", [], [1], OLD),)}, SpeakerKind.WORKER, f"worker-2 of group fulfillment runs {OLD}"),
        ({"answers": {LIVE: Answer(12, ("o-1",)), WAITING: Answer(0)}}, SpeakerKind.INSTANCE, "of order-v1, other-v1, orders 12: o-1, …"),
        ({"answers": {LIVE: None, WAITING: Answer(0)}}, SpeakerKind.INSTANCE, "of order-v1, other-v1, orders could not be counted within the statement timeout"),
        ({"reached": (CARRIES, ROUTED)}, SpeakerKind.INSTANCE, "of order-v1 may begin by route route-1"),
        ({"answers": {LIVE: Answer(0), WAITING: Answer(1, ("e-1",))}}, SpeakerKind.OUTBOX, "of topic orders.v1, events 1: e-1"),
        ({"topics": {"orders.v1": TopicState(40, {"projection": 3, "billing": 0})}}, SpeakerKind.RECORD, "of topic orders.v1, 40 retained, projection is 3 behind"),
        ({"keys": {OFFERING: Answer(2, ("a", "b"))}}, SpeakerKind.REDIS, "of offering 1, 2: a, b"),
        ({"keys": {}}, SpeakerKind.REDIS, "of offering 1, could not be asked"),
        ({"standbys": StandbyState({"db2:5432": 512}, 1)}, SpeakerKind.STANDBY, "db2:5432 is 512 bytes of log behind"),
        ({"standbys": StandbyState({"db2:5432": None}, 1)}, SpeakerKind.STANDBY, "db2:5432 does not answer"),
        ({"standbys": StandbyState({"db2:5432": 0}, 2)}, SpeakerKind.STANDBY, "unknown: 2 servers receive the log, and DB_URL names 1 of them"),
    ],
)  # fmt: skip
def test_each_who_speaks_is_named(change: dict[str, object], kind: SpeakerKind, who: str) -> None:
    (one,) = speakers(CONTRACT, OWN, 4, replace(SILENT, **change))  # type: ignore[arg-type]

    assert (one.kind, one.who) == (kind, who)
    assert one.remedy


def test_a_release_of_the_last_generation_that_needs_it_takes_nothing_away() -> None:
    (one,) = speakers(CONTRACT, OWN, 3, SILENT)

    assert one.who == f"{OWN}, of generation 3, needs what {CONTRACT.name} removes"


def test_a_topic_that_is_not_there_has_no_records() -> None:
    assert speakers(CONTRACT, OWN, 4, replace(SILENT, topics={})) == []


def test_a_migration_that_takes_only_a_column_away_asks_for_no_other_form() -> None:
    column = migration(
        "0033_contract_column", "-- removes: column cpq.quote.remark\n-- last-needed-by: generation 3\n", "sha"
    )
    loud = replace(SILENT, answers={}, keys={}, topics={"orders.v1": TopicState(1)}, reached=(ROUTED,))

    assert questions([column], loud.reached) == ()
    assert speakers(column, OWN, 4, loud) == []
