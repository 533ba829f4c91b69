"""The items of readiness are the spec's, the page of them is the contract's, and everything that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from artifact_build.bundle import LAID_OPEN, RENAMED

from app.application.readiness import Facts
from app.application.readiness_probes import PROBES
from app.contracts.loader import DIRECTORY, ContractError, load_promotion, load_readiness, load_units

ROOT = Path(__file__).resolve().parents[2]
ITEMS = load_readiness()
PAGE = (ROOT / "docs/readiness.md").read_text()
# Spec 23, as it stands there.
SPEC = (
    "API WAR built and versioned.",
    "Worker JAR built and versioned.",
    "Outbox relay artifact built and versioned.",
    "Event consumer artifact built and versioned.",
    "OpenAPI/schema artifacts published.",
    "DB migrations reviewed and tested.",
    "Migration rollback/roll-forward plan written.",
    "Kafka topics/schemas available.",
    "BPMN files deployed or ready.",
    "Worker supports deployed job types.",
    "Redis key/version changes documented.",
    "Config validated.",
    "Secrets available and rotated if needed.",
    "Smoke tests passed in staging.",
    "Performance impact understood.",
    "Observability dashboards updated.",
    "Alerts updated.",
    "Runbook updated.",
    "Business owner approval recorded if needed.",
)


def bundled() -> list[str]:
    """The files of a bundle for production, but for its manifest."""
    archives = [f"cpq-oms-{unit}.tar" for unit in load_units() if unit != "simulator"]
    open_ = [
        str(path.relative_to(ROOT))
        for name in LAID_OPEN
        for path in ([ROOT / name] if not name.endswith("/") else sorted((ROOT / name).rglob("*")))
        if path.is_file()
    ]
    return [*archives, "uv", "sbom.cdx.json", *(RENAMED.get(name, name.removeprefix("app/")) for name in open_)]


def test_the_items_are_those_of_the_spec() -> None:
    assert tuple(item.spec for item in ITEMS.values()) == SPEC


def test_the_page_has_a_row_for_each_item_with_its_words_and_its_time() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \| (.+?) \| (\d+) days? \|$", PAGE, re.MULTILINE)

    assert [(name, spec, int(days)) for name, spec, _, days in rows] == [
        (name, item.spec, item.valid.days) for name, item in ITEMS.items()
    ]
    assert {name for name, _, shown_by, _ in rows if shown_by == "a person's signed word"} == {
        name for name, item in ITEMS.items() if item.attested
    }


def test_every_probe_is_asked_and_every_one_that_is_asked_is_there() -> None:
    assert {item.probe for item in ITEMS.values() if item.probe} == PROBES.keys()


def test_every_file_of_a_bundle_is_held_to_its_manifest_by_some_item() -> None:
    names = bundled()
    facts = Facts({"files": {name: {"sha256": "0"} for name in names}}, {})
    patterns = {pattern for item in ITEMS.values() for pattern in item.files}

    assert {name for pattern in patterns for name in facts.listed(pattern)} == {*names}
    assert all(facts.listed(pattern) for pattern in patterns)


def test_what_a_person_attests_is_remedied_by_the_command_for_it() -> None:
    attested = {name: item.remedy for name, item in ITEMS.items() if item.attested}

    assert attested
    assert all(f"approve.yml -i ENV -e attested={name}" in remedy for name, remedy in attested.items())


def test_production_alone_asks_for_an_answer_and_comes_after_every_stage_that_items_ask_for() -> None:
    promotion = load_promotion()
    asked = {stage for item in ITEMS.values() for stage in item.evidence}

    assert [name for name, stage in promotion.stages.items() if stage.readiness] == ["prod"]
    assert asked <= set(promotion.before("prod"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("    evidence: {staging: [smoke]}\n", "", "items.staging-smoke.probe: missing, and nothing else shows it"),
        (
            "evidence: {staging: [smoke]}",
            "evidence: {stage: [smoke]}",
            "items.staging-smoke.evidence.stage: is no stage",
        ),
        ("evidence: {staging: [smoke]}", "evidence: {staging: [fire]}", "items.staging-smoke.evidence.staging"),
        ("evidence: {staging: [smoke]}", "evidence: {staging: []}", "items.staging-smoke.evidence.staging"),
        ("valid: P7D", "valid: a week", "items.business-approval.valid"),
        ("attested: true", "signed: true", "items.performance-understood.signed"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    (tmp_path / "promotion.yml").write_text((DIRECTORY / "promotion.yml").read_text())
    text = (DIRECTORY / "readiness.yml").read_text()
    assert old in text
    (tmp_path / "readiness.yml").write_text(text.replace(old, new, 1))

    with pytest.raises(ContractError) as refused:
        load_readiness(tmp_path)

    assert f"readiness.yml: {problem}" in str(refused.value)
