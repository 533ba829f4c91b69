"""An item is green only where everything that it asks for was seen, is as expected and still holds; what is wrong is said by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.application.promotion import Attestation, Judge, Kept, Place, ReleaseEvidence, ShownItem, attestation_name
from app.application.readiness import LOOK_AGAIN, Facts, Found, MalformedError, ReadinessJudge, Sight
from app.application.readiness_probes import PROBES
from app.contracts.loader import ReadinessItem
from tests.support.promotion import AT, BUNDLE, ITEMS, PROMOTION, documents, kept

NOW = AT + timedelta(hours=1)
DAY = timedelta(days=1)
FILES = {"a.tar": {"sha256": "1" * 64}, "contracts/b.yml": {"sha256": "2" * 64}}
FACTS = Facts({"files": FILES}, {name: about["sha256"] for name, about in FILES.items()})
WORD = (("prod", attestation_name("it")), Kept(Attestation("it", "prod", BUNDLE, "max", "as before", AT), "sha-of-it"))
CHAIN: dict[Place, Kept] = {**kept(documents()), WORD[0]: WORD[1]}


def item(**changes: Any) -> ReadinessItem:
    return ReadinessItem(**{"spec": "It is well.", "valid": "P1D", "remedy": "mend it", **changes})


def judged(
    asked: ReadinessItem,
    found: Found | MalformedError | None = None,
    *,
    facts: Facts = FACTS,
    chain: Mapping[Place, Kept] = CHAIN,
) -> ShownItem:
    """What comes of one item."""

    def probe(_: ReadinessItem, __: Facts) -> Found:
        if isinstance(found, MalformedError):
            raise found
        assert found is not None
        return found

    path = Judge(PROMOTION, BUNDLE, NOW, chain)
    return ReadinessJudge({"it": asked}, {"looks": probe}, path, facts, "prod").judged()["it"]


def test_what_was_looked_at_now_holds_from_now_with_a_hash_of_it() -> None:
    shown = judged(item(files=["a.tar", "contracts/*"], probe="looks"), Found("well", {"seen": 1}))

    assert (shown.colour, shown.detail) == ("green", "2 files as signed; well")
    assert (shown.at, shown.until, shown.remedy) == (NOW, NOW + DAY, "")
    assert shown.shown == [{"files": {"a.tar": "1" * 64, "contracts/b.yml": "2" * 64}}, {"seen": 1}]
    assert shown.evidence_sha256 == hashlib.sha256(json.dumps(shown.shown, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            replace(FACTS, files={**FACTS.files, "a.tar": "0" * 64}),
            "a.tar: expected SHA-256 111111111111, found 000000000000",
        ),
        (replace(FACTS, files={}), "a.tar: expected SHA-256 111111111111, it is missing"),
        (replace(FACTS, archives={"a.tar": ("a.tar: is no whole artifact",)}), "a.tar: is no whole artifact"),
        (Facts({"files": {}}, {}), "a.tar: expected it in the bundle, the manifest lists none"),
    ],
)
def test_a_file_that_is_not_as_signed_is_red(facts: Facts, said: str) -> None:
    shown = judged(item(files=["a.tar"]), facts=facts)

    assert (shown.colour, shown.detail, shown.until, shown.remedy) == ("red", said, None, "mend it")


def test_a_pattern_matches_within_its_folder() -> None:
    facts = Facts({"files": {name: {"sha256": ""} for name in ("m/1.sql", "m/v/1.sql", "1.sql", "n/m/1.sql")}}, {})

    assert [*facts.listed("m/*")] == ["m/1.sql"]


def test_unseen_is_not_green_and_wrong_goes_before_unseen() -> None:
    blind = Found("", {}, (), "nobody answered")

    unseen = judged(item(files=["a.tar"], probe="looks"), blind)
    red = judged(item(files=["a.tar"], probe="looks"), blind, facts=replace(FACTS, files={}))

    assert unseen == ShownItem("unseen", "nobody answered", remedy=LOOK_AGAIN)
    assert (red.colour, "a.tar" in red.detail) == ("red", True)


def test_a_declaration_that_cannot_be_read_is_red() -> None:
    assert (
        judged(item(probe="looks"), MalformedError("b.yml: expected a declaration")).detail
        == "b.yml: expected a declaration"
    )
    with pytest.raises(MalformedError, match=r"contracts/b\.yml: expected a declaration, found none that can be read"):
        FACTS.document("contracts/b.yml")


def of_staging(**changes: Any) -> dict[Place, Kept]:
    """The chain with another smoke test in staging."""
    evidence = CHAIN["staging", "release"]
    assert isinstance(evidence.document, ReleaseEvidence)
    parts = {**evidence.document.parts, "smoke": replace(evidence.document.parts["smoke"], **changes)}
    return {**CHAIN, ("staging", "release"): replace(evidence, document=replace(evidence.document, parts=parts))}


def test_evidence_of_a_stage_holds_from_when_it_was_taken_for_the_shorter_of_both_times() -> None:
    short, long = (judged(item(evidence={"staging": ["smoke"]}, valid=valid)) for valid in ("P1D", "P30D"))

    assert (short.colour, short.at, short.until) == ("green", AT, AT + DAY)
    # What promotion.yml says of staging.
    assert (long.at, long.until) == (AT, AT + timedelta(days=14))
    assert short.shown[0]["sha256"] == CHAIN["staging", "release"].sha256


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (
            of_staging(result="failed"),
            "staging: smoke: expected it passed and not expired, found it failed (smoke is well)",
        ),
        (of_staging(at=AT - timedelta(days=14)), "found it expired (held until "),
        (of_staging(at=AT - DAY), "held until 2026-11-29T12:00:00+00:00"),
        ({}, "found it missing"),
        ({("staging", "release"): Kept(refusal="was changed")}, "found it refused (was changed)"),
    ],
)
def test_evidence_that_does_not_hold_is_red(chain: Mapping[Place, Kept], said: str) -> None:
    shown = judged(item(evidence={"staging": ["smoke"]}), chain=chain)

    assert (shown.colour, said in shown.detail) == ("red", True)


def test_tests_are_all_of_the_stage() -> None:
    tests = {place: about for place, about in CHAIN.items() if place != ("", "tests-kill-matrix")}

    shown = judged(item(evidence={"staging": ["tests"]}, valid="P14D"), chain=tests)

    assert judged(item(evidence={"staging": ["tests"]})).colour == "green"
    assert shown.detail == "staging: tests kill-matrix: expected it passed and not expired, found it missing"


def word(**changes: Any) -> dict[Place, Kept]:
    return {WORD[0]: Kept(replace(WORD[1].document, **changes))}  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ({}, "expected the signed word of one of promotion_approvers, found none"),
        ({WORD[0]: Kept(refusal="was changed")}, "was changed"),
        ({WORD[0]: CHAIN["staging", "release"]}, "expected an attestation, found another document"),
        (word(item="other"), "expected it for prod, found other for prod"),
        (word(environment="staging"), "expected it for prod, found it for staging"),
        (word(bundle=replace(BUNDLE, digest="0" * 64)), "attested by max, but it is of another bundle"),
        (word(at=NOW - DAY), "attested by max, held until "),
        (word(at=NOW + timedelta(minutes=6)), "which is to come"),
    ],
)
def test_only_a_persons_word_for_this_bundle_counts_and_for_its_time(chain: Mapping[Place, Kept], said: str) -> None:
    green = judged(item(attested=True))
    shown = judged(item(attested=True), chain=chain)

    assert (green.colour, green.detail, green.at, green.until) == ("green", "max: as before", AT, AT + DAY)
    assert (shown.colour, said in shown.detail) == ("red", True)


# --- probes, on a small bundle

SHA = "5" * 64
LISTED = (
    "bpmn/a.bpmn",
    "contracts/events/e.json",
    "contracts/variables/v.json",
    "contracts/topics/t.yml",
    "runbook.md",
    "migrations/0001_expand_a.sql",
    "migrations/0001_expand_a.rollback.sql",
    "migrations/verify/0001_expand_a.sql",
)
DOCUMENTS: dict[str, Any] = {
    "contracts/openapi.yml": {"info": {"version": "1.0.0"}},
    "contracts/processes.yml": {"processes": {"a": {"file": "a.bpmn", "variables_schema": "v.json"}}},
    "contracts/events/e.json": {"type": "object"},
    "contracts/variables/v.json": {"type": "object"},
    "contracts/topics/t.yml": {"schema": "e.json"},
    "contracts/job_types.yml": {"job_types": {}},
    "contracts/settings.json": {"api": {}},
    "contracts/feature_flags.yml": {"flags": {}},
    "contracts/release_path.yml": {"generation": 1},
    "migrations/ledger.txt": f"0001_expand_a {SHA}\n",
}
RUNBOOK = "release.yml"
RULES = {
    "groups": [{"rules": [{"alert": "A", "expr": "cpq_a > 1", "annotations": {"summary": "s", "description": "d"}}]}]
}
SOURCE: dict[str, Any] = {
    "files": {
        "CHANGELOG.md": "# Changes\n\n## New\n\n- old_key\n\n## Old\n\n- former_key\n",
        "docs/release.md": RUNBOOK,
    },
    "documents": {
        "app/entrypoints/console/dashboards.yml": {
            "dashboards": [{"name": "d", "panels": [{"title": "p", "query": "cpq_a"}]}]
        },
        "roles/prometheus/files/rules/a.yml": RULES,
        "roles/prometheus/files/rule_tests/a.yml": {"tests": [{"name": "A is raised"}, {"name": "A stays quiet"}]},
    },
    "figures": ["cpq_a"],
    "playbooks": ["release.yml"],
}
CHANGE = {"kind": "redis-key", "name": "old_key pattern", "text": "is another", "forward": "compatible"}
SIGHTS: dict[str, dict[str, Any]] = {
    "hosts": {"installed": {"api": ["before"]}},
    "source": SOURCE,
    "topics": {"changes": []},
    "live": {"deployed": {"a": [SHA]}},
    "job-types": {"bundled": ["x"], "processes": ["a"], "reached": [{"process_id": "a"}]},
    "plan": {"verdict": {"way": "possible"}, "template": {"owner": "erika"}, "changes": [CHANGE]},
    "configuration": {},
    "secrets": {},
}
MANIFEST: dict[str, Any] = {
    "units": {"api": {"file": "api.tar", "version": "1.0"}},
    "files": {
        name: {"sha256": hashlib.sha256(RUNBOOK.encode()).hexdigest() if name == "runbook.md" else SHA}
        for name in LISTED
    },
}


def small(**sights: dict[str, Any]) -> Facts:
    """Facts in which every probe finds all it asks for, but for what is given of a sight."""
    seen = {name: Sight({**data, **sights.get(name.replace("-", "_"), {})}) for name, data in SIGHTS.items()}
    return Facts(MANIFEST, {}, {}, DOCUMENTS, RUNBOOK, seen)


def with_documents(**changes: Any) -> Facts:
    named = {name: changes.get(name.rpartition("/")[2].partition(".")[0], about) for name, about in DOCUMENTS.items()}
    return replace(small(), documents=named)


def without(*names: str) -> Facts:
    files = {name: about for name, about in MANIFEST["files"].items() if name not in names}
    return replace(small(), manifest={**MANIFEST, "files": files})


def looked(probe: str, facts: Facts) -> Found:
    return PROBES[probe](item(files=["api.tar"], probe=probe), facts)


@pytest.mark.parametrize("probe", PROBES)
def test_each_probe_finds_nothing_wrong_with_what_is_sound(probe: str) -> None:
    found = looked(probe, small())

    assert (found.problems, found.unseen, bool(found.summary)) == ((), "", True)


DASHBOARD, RULE, TESTS = SOURCE["documents"]


def of_source(name: str, document: Any) -> Facts:
    return small(source={"documents": {**SOURCE["documents"], name: document}})


def alerting(**changes: Any) -> Facts:
    [group] = RULES["groups"]
    [rule] = group["rules"]
    return of_source(RULE, {"groups": [{"rules": [{**rule, **changes}]}]})


@pytest.mark.parametrize(
    ("probe", "facts", "said"),
    [
        (
            "artifacts",
            replace(small(), manifest={**MANIFEST, "units": {}}),
            "expected a deployable with the archive api.tar",
        ),
        (
            "artifacts",
            replace(small(), manifest={**MANIFEST, "units": {"api": {"file": "api.tar", "version": "latest"}}}),
            "units: api: version: expected a number, found 'latest'",
        ),
        (
            "schemas",
            with_documents(openapi={"openapi": "3.1.0"}),
            "openapi.yml: info.version: expected one, found none",
        ),
        ("schemas", without("contracts/variables/v.json"), "v.json: processes.yml names it, the manifest does not"),
        (
            "migrations",
            with_documents(ledger=f"0001_expand_a {'0' * 64}\n"),
            "0001_expand_a: expected 555555555555, found 0000",
        ),
        (
            "migrations",
            with_documents(ledger=f"0001_expand_a {SHA}\n0002_expand_b {SHA}\n"),
            "0002_expand_b: no such file",
        ),
        (
            "migrations",
            without("migrations/verify/0001_expand_a.sql"),
            "expected a script that verifies it, found none",
        ),
        ("way-back", without("migrations/0001_expand_a.rollback.sql"), "0001_expand_a.rollback.sql: expected it"),
        ("way-back", small(plan={"verdict": {}}), "expected a verdict and the page of the way back, found none"),
        ("way-back", small(plan={"template": {"owner": ""}}), "plan: owner: expected it filled, found nothing"),
        ("topics", without("contracts/events/e.json"), "t.yml: schema: e.json is not in contracts/events"),
        ("topics", small(topics={"changes": ["create topic t"]}), "found: create topic t"),
        ("processes", without("bpmn/a.bpmn"), "bpmn/a.bpmn: processes.yml names it, the manifest does not"),
        ("processes", small(live={"deployed": {"a": ["6" * 64]}}), "in the engine or none, found 666666666666"),
        ("redis-keys", small(plan={"changes": [{**CHANGE, "forward": "breaking"}]}), "old_key pattern: is another"),
        (
            "redis-keys",
            small(plan={"changes": [{**CHANGE, "name": "new_key"}]}),
            "new_key: expected it named in the newest part",
        ),
        # It was said of a release before this one.
        ("redis-keys", small(plan={"changes": [{**CHANGE, "name": "former_key"}]}), "former_key: expected it named"),
        ("dashboards", small(source={"figures": []}), "d: p: nothing shows cpq_a"),
        ("alerts", small(source={"figures": []}), "a.yml: nothing shows cpq_a"),
        ("alerts", alerting(annotations={"summary": "s"}), "A: annotations: expected summary and description"),
        (
            "alerts",
            of_source(TESTS, {"tests": [{"name": "A is raised"}]}),
            "expected the test 'A stays quiet', found none",
        ),
        ("runbook", small(source={"playbooks": ["release.yml", "new.yml"]}), "expected a word of new.yml, found none"),
        ("runbook", small(source={"files": {}}), "expected docs/release.md of the commit"),
    ],
)
def test_each_probe_says_what_was_expected_and_what_was_found(probe: str, facts: Facts, said: str) -> None:
    [problem] = looked(probe, facts).problems

    assert said in problem


@pytest.mark.parametrize("probe", ["way-back", "job-types", "configuration", "secrets", "topics"])
def test_what_others_judged_wrong_is_said_in_their_words(probe: str) -> None:
    name = {"way-back": "plan"}.get(probe, probe)
    facts = small()
    wrong = replace(facts, sights={**facts.sights, name: replace(facts.sights[name], problems=("that is wrong",))})

    [problem] = looked(probe, wrong).problems

    assert problem.endswith("that is wrong")


@pytest.mark.parametrize(
    ("probe", "sight"),
    [
        ("way-back", "plan"),
        ("redis-keys", "plan"),
        ("redis-keys", "source"),
        ("topics", "topics"),
        ("processes", "live"),
        ("job-types", "live"),
        ("job-types", "job-types"),
        ("configuration", "configuration"),
        ("secrets", "secrets"),
        ("dashboards", "source"),
        ("alerts", "source"),
        ("runbook", "source"),
    ],
)
def test_each_probe_says_why_it_could_not_look(probe: str, sight: str) -> None:
    facts = small()
    gone = {name: about for name, about in facts.sights.items() if name != sight}

    for sights, why in ((gone, f"{sight}: nobody looked"), ({**gone, sight: Sight(unseen="no route")}, "no route")):
        assert looked(probe, replace(facts, sights=sights)).unseen == why


@pytest.mark.parametrize(("probe", "document"), [("dashboards", DASHBOARD), ("alerts", RULE)])
def test_a_commit_without_them_is_no_sound_one(probe: str, document: str) -> None:
    documents_of_source = {name: about for name, about in SOURCE["documents"].items() if name != document}

    with pytest.raises(MalformedError, match=r"expected \w+, found none"):
        looked(probe, small(source={"documents": documents_of_source}))


def test_a_key_that_did_not_change_needs_no_word() -> None:
    facts = small(plan={"changes": [{**CHANGE, "kind": "flag", "name": "other"}]})

    assert looked("redis-keys", facts).summary == "no key changes"


def test_every_item_of_the_contract_can_be_red_and_says_its_remedy() -> None:
    nothing = Facts({"files": {}, "units": {}}, {})
    judge = ReadinessJudge(ITEMS, PROBES, Judge(PROMOTION, BUNDLE, NOW, {}), nothing, "prod")

    found = judge.judged()

    assert [*found] == [*ITEMS]
    assert {shown.colour for shown in found.values()} == {"red", "unseen"}
    assert all(
        shown.remedy == (ITEMS[name].remedy if shown.colour == "red" else LOOK_AGAIN) for name, shown in found.items()
    )
