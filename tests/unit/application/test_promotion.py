"""Whether a release may come to a stage: a whole chain that still holds, and nothing less, opens the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.application.promotion import (
    APPROVAL,
    READINESS,
    REHEARSAL,
    RELEASE,
    Approval,
    Judge,
    Kept,
    Part,
    Place,
    Readiness,
    ReleaseEvidence,
    Row,
    SuiteResult,
    suite_name,
)
from tests.support.promotion import AT, BUNDLE, INVENTORY, ITEMS, PROMOTION, documents, kept, ready, released

SOON = AT + timedelta(hours=1)
OTHER = replace(BUNDLE, release_id="cpq-oms-2026.11.29-002", digest="0" * 64, manifest_sha256="1" * 64)


def judge(chain: Mapping[Place, Kept], now: datetime = SOON) -> Judge:
    return Judge(PROMOTION, BUNDLE, now, chain, {"prod": INVENTORY}, frozenset(ITEMS))


def verdict(chain: Mapping[Place, Kept], stage: str = "prod", now: datetime = SOON) -> dict[tuple[str, str], Row]:
    """What is said of each piece of evidence that does not count."""
    return {(row.stage, row.what): row for row in judge(chain, now).verdict(stage).rows if row.state != "there"}


def place_of(row: Row) -> tuple[Place, str]:
    """The document that a row is about, and its part."""
    if row.what.startswith("tests "):
        return ("", suite_name(row.what.removeprefix("tests "))), ""
    if row.what in {APPROVAL, READINESS}:
        return (row.stage, row.what), ""
    is_rehearsal = row.what.startswith("rehearsal ")
    return (row.stage, REHEARSAL if is_rehearsal else RELEASE), row.what.removeprefix("rehearsal ")


def without(chain: dict[Place, Kept], row: Row) -> None:
    """Take one piece of evidence away."""
    place, part = place_of(row)
    if not part:
        del chain[place]
        return
    document = chain[place].document
    assert isinstance(document, ReleaseEvidence)
    parts = {kind: about for kind, about in document.parts.items() if kind != part}
    chain[place] = replace(chain[place], document=replace(document, parts=parts))


def aged(chain: dict[Place, Kept], row: Row, part_of: Callable[[Part], Part] | None = None) -> None:
    """Let one piece of evidence be from so long ago that nothing of it holds, or alter its part otherwise."""
    place, part = place_of(row)
    document: Any = chain[place].document
    if part:
        alter = part_of or (lambda about: replace(about, at=AT - timedelta(days=400)))
        parts = {kind: alter(about) if kind == part else about for kind, about in document.parts.items()}
        document = replace(document, parts=parts)
    else:
        document = replace(document, at=AT - timedelta(days=400))
    chain[place] = replace(chain[place], document=document)


WHOLE = kept(documents())
ROWS = judge(WHOLE).verdict("prod").rows


@pytest.mark.parametrize("stage", PROMOTION.stages)
def test_a_whole_chain_opens_the_way_to_every_stage(stage: str) -> None:
    found = judge(WHOLE).verdict(stage)

    assert not found.problems
    assert {row.stage for row in found.rows if not row.what.startswith(("rehearsal ", READINESS))} == set(
        PROMOTION.before(stage)
    )


def test_the_path_is_asked_for_all_that_the_contract_names() -> None:
    for stage in PROMOTION.before("prod"):
        asked = {row.what.partition(" ")[0] for row in ROWS if row.stage == stage}
        assert asked == set(PROMOTION.kinds)
    assert {row.what for row in ROWS if row.stage == "prod"} == {READINESS} | {
        f"rehearsal {kind}" for kind, source in PROMOTION.kinds.items() if source.document == "release"
    }


@given(st.lists(st.tuples(st.sampled_from(ROWS), st.booleans()), unique_by=lambda each: (each[0].stage, each[0].what)))
def test_what_is_taken_away_or_has_expired_is_named_and_nothing_else(spoilt: list[tuple[Row, bool]]) -> None:
    chain = dict(WHOLE)
    for row, is_gone in spoilt:
        (without if is_gone else aged)(chain, row)

    found = verdict(chain)

    # A test stage may be asked for by one stage of the path alone, so nothing else can be touched.
    assert {key: row.state for key, row in found.items()} == {
        (row.stage, row.what): "missing" if is_gone else "expired" for row, is_gone in spoilt
    }
    lines = judge(chain).verdict("prod").problems
    assert all(any(line.startswith(f"{row.stage}: ") and row.what in line for line in lines) for row, _ in spoilt)
    assert all(row.remedy for row in found.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.stage} {row.what}")
def test_each_piece_holds_until_its_time_and_not_a_moment_longer(row: Row) -> None:
    assert row.until is not None
    others = {(other.stage, other.what) for other in ROWS if other.until and other.until > row.until}

    before = verdict(WHOLE, now=row.until - timedelta(microseconds=1))
    after = verdict(WHOLE, now=row.until)

    assert (row.stage, row.what) not in before
    assert after[row.stage, row.what].state == "expired"
    assert not others & after.keys()


def released_as(**changes: Any) -> ReleaseEvidence:
    return replace(released("staging"), **changes)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (released_as(environment="dev"), "is of environment dev"),
        (released_as(bundle=OTHER), "is of another bundle: cpq-oms-2026.11.29-002 with 000000000000"),
        (released_as(is_rehearsed=True), "is of a rehearsal, not of the environment itself"),
        (SuiteResult("unit", BUNDLE.release_id, BUNDLE.git_commit, AT, 1, 0), "is no evidence of a release"),
    ],
)
def test_evidence_of_something_else_counts_for_no_part(document: Any, said: str) -> None:
    found = verdict({**WHOLE, ("staging", RELEASE): replace(WHOLE["staging", RELEASE], document=document)})

    assert {what for _, what in found} == {
        kind for kind, source in PROMOTION.kinds.items() if source.document == "release"
    }
    assert {(row.stage, row.state) for row in found.values()} == {("staging", "refused")}
    assert all(row.detail.startswith(said) for row in found.values())


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (replace(released("prod", is_rehearsed=True), inventory_sha256="0" * 64), "is of another inventory"),
        (
            replace(released("prod", is_rehearsed=True), bundle=replace(BUNDLE, manifest_sha256="0" * 64)),
            "another bundle",
        ),
        (released("prod"), "is of no rehearsal"),
    ],
)
def test_production_asks_for_a_rehearsal_of_this_very_bundle_on_its_own_inventory(document: Any, said: str) -> None:
    found = verdict({**WHOLE, ("prod", REHEARSAL): Kept(document)})

    assert {stage for stage, _ in found} == {"prod"}
    assert all(row.state == "refused" and said in row.detail for row in found.values())


def with_item(name: str, **changes: Any) -> Readiness:
    answer = ready("prod")
    return replace(answer, items={**answer.items, name: replace(answer.items[name], **changes)})


@pytest.mark.parametrize(
    ("document", "state", "said"),
    [
        (ready("staging"), "refused", "is of environment staging"),
        (ready("prod", replace(BUNDLE, manifest_sha256="0" * 64)), "refused", "is of another bundle"),
        (ready("prod", inventory="0" * 64), "refused", "is of another inventory: it was altered since"),
        (ready("prod", at=SOON + timedelta(minutes=6)), "refused", "which is to come"),
        (replace(ready("prod"), items={}), "refused", f"was not asked for {', '.join(sorted(ITEMS))}"),
        (released("prod"), "refused", "is no answer of readiness.yml"),
        (with_item("bpmn-ready", colour="red"), "failed", "red: bpmn-ready"),
        (with_item("bpmn-ready", colour="unseen"), "failed", "unseen: bpmn-ready"),
        (with_item("staging-smoke", until=SOON), "expired", "holds no more: staging-smoke"),
        (with_item("staging-smoke", until=None), "expired", "holds no more: staging-smoke"),
        (ready("prod", at=SOON - timedelta(days=1)), "expired", "holds no more: "),
    ],
)
def test_production_asks_for_a_fresh_green_answer_of_this_very_bundle(document: Any, state: str, said: str) -> None:
    found = verdict({**WHOLE, ("prod", READINESS): Kept(document)})

    assert list(found) == [("prod", READINESS)]
    assert (found["prod", READINESS].state, said in found["prod", READINESS].detail) == (state, True)
    assert found["prod", READINESS].remedy == "ask for it: make readiness ENV=prod BUNDLE=DIR"


def test_an_answer_holds_until_the_first_of_its_items_does_not() -> None:
    until = SOON + timedelta(minutes=1)
    chain = {**WHOLE, ("prod", READINESS): Kept(with_item("staging-smoke", until=until))}

    [row] = [row for row in judge(chain).verdict("prod").rows if row.what == READINESS]

    assert (row.state, row.until) == ("there", until)


def test_a_bundle_with_the_simulator_is_the_same_release_as_one_without() -> None:
    """Their manifests differ, and what is released to production does not."""
    with_simulator = replace(BUNDLE, manifest_sha256="0" * 64, build_id="1" * 16)
    chain = kept({**documents(), ("dev", RELEASE): released("dev", with_simulator)})

    assert not verdict(chain)


def test_a_document_that_is_not_believed_is_refused_with_the_reason() -> None:
    for place, row in ((place_of(row)[0], row) for row in ROWS):
        found = verdict({**WHOLE, place: Kept(refusal="was changed", sha256=WHOLE[place].sha256)})

        assert found[row.stage, row.what].state == "refused"
        assert {row.detail for row in found.values()} == {"was changed"}
        assert all(place_of(row)[0] == place for row in found.values())


def test_a_part_that_failed_does_not_count() -> None:
    for row in ROWS:
        if not place_of(row)[1]:
            continue
        chain = dict(WHOLE)
        aged(chain, row, lambda about: replace(about, result="failed"))

        assert {key: found.state for key, found in verdict(chain).items()} == {(row.stage, row.what): "failed"}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"failed": 1}, "failed"),
        ({"passed": 0}, "failed"),
        ({"git_commit": "0" * 40}, "refused"),
        ({"release_id": "cpq-oms-2026.11.29-001-d00000000"}, "refused"),
        ({"suite": "lint"}, "refused"),
        ({"at": SOON + timedelta(minutes=6)}, "refused"),
    ],
)
def test_only_tests_that_passed_for_this_commit_count(changes: Mapping[str, Any], state: str) -> None:
    document: Any = WHOLE["", "tests-unit"].document
    found = verdict({**WHOLE, ("", "tests-unit"): Kept(replace(document, **changes))})

    assert {key: row.state for key, row in found.items()} == {("local", "tests unit"): state}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"environment": "dev"}, "is of environment dev"),
        ({"bundle": OTHER}, "is of another bundle"),
        ({"evidence_sha256": "of what was there before"}, "is of other evidence"),
        ({"at": SOON + timedelta(minutes=6)}, "which is to come"),
    ],
)
def test_only_an_approval_of_what_is_there_counts(changes: Mapping[str, Any], said: str) -> None:
    document = WHOLE["staging", APPROVAL].document
    assert isinstance(document, Approval)
    found = verdict({**WHOLE, ("staging", APPROVAL): Kept(replace(document, **changes))})

    assert list(found) == [("staging", APPROVAL)]
    assert said in found["staging", APPROVAL].detail


def test_a_problem_has_one_line_with_stage_evidence_reason_and_remedy() -> None:
    chain = {place: about for place, about in WHOLE.items() if place != ("staging", RELEASE)}

    [problem] = judge(chain).verdict("prod").problems
    remedy = "release it there: ansible-playbook promote.yml -i inventories/staging -e release_bundle=DIR"
    assert problem == f"staging: build, migration, contracts, manifest, smoke: missing; {remedy}"


@pytest.mark.parametrize(
    ("chain", "is_proven"),
    [
        ({}, False),
        ({("ci", RELEASE): Kept(released("ci"))}, True),
        # It is on no path, so nothing of it expires.
        ({("ci", RELEASE): Kept(released("ci", at=datetime(2020, 1, 1, tzinfo=UTC)))}, True),
        ({("ci", RELEASE): Kept(released("ci", OTHER))}, False),
        ({("ci", REHEARSAL): Kept(released("ci", is_rehearsed=True))}, False),
        ({("ci", RELEASE): Kept(refusal="was changed")}, False),
    ],
)
def test_an_environment_off_the_path_is_proven_by_its_own_evidence(
    chain: Mapping[Place, Kept], is_proven: bool
) -> None:
    assert judge(chain).is_proven("ci", is_rehearsed=False) is is_proven


def test_a_rehearsal_is_proven_for_the_inventory_it_was_of() -> None:
    rehearsed = {("prod", REHEARSAL): Kept(released("prod", is_rehearsed=True))}

    assert judge(rehearsed).is_proven("prod", is_rehearsed=True)
    assert not replace(judge(rehearsed), inventories={"prod": "0" * 64}).is_proven("prod", is_rehearsed=True)
    assert not judge(rehearsed, AT + timedelta(days=7)).is_proven("prod", is_rehearsed=True)
