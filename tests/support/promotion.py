"""A whole chain of evidence for a bundle, as the stages of the path leave it, to be spoilt by tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from app.application.promotion import (
    APPROVAL,
    READINESS,
    REHEARSAL,
    RELEASE,
    Approval,
    Document,
    Kept,
    Part,
    Place,
    Readiness,
    ReleaseEvidence,
    ShownItem,
    Subject,
    SuiteResult,
    suite_name,
)
from app.contracts.loader import Promotion, load_promotion, load_readiness

AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
BUNDLE = Subject("cpq-oms-2026.11.29-001", "c" * 40, "b" * 16, "d" * 64, "e" * 64)
INVENTORY = "f" * 64
PROMOTION = load_promotion()
ITEMS = load_readiness()


def released(
    environment: str,
    bundle: Subject = BUNDLE,
    at: datetime = AT,
    *,
    is_rehearsed: bool = False,
    inventory: str = INVENTORY,
) -> ReleaseEvidence:
    """What a release leaves."""
    kinds = [kind for kind, source in PROMOTION.kinds.items() if source.document == "release"]
    return ReleaseEvidence(
        environment=environment,
        is_rehearsed=is_rehearsed,
        inventory_sha256=inventory,
        bundle=bundle,
        operator="erika",
        record="7:abc",
        parts={kind: Part("passed", at, f"{kind} is well", {"of": environment}) for kind in kinds},
    )


def ready(environment: str, bundle: Subject = BUNDLE, at: datetime = AT, *, inventory: str = INVENTORY) -> Readiness:
    """An answer of readiness.yml in which every item is green."""
    items = {name: ShownItem("green", "is well", at, at + item.valid, "0" * 64, []) for name, item in ITEMS.items()}
    return Readiness(environment, inventory, bundle, "erika", at, items)


def documents(
    bundle: Subject = BUNDLE,
    at: datetime = AT,
    *,
    by: str = "max",
    inventory: str = INVENTORY,
    promotion: Promotion = PROMOTION,
) -> dict[Place, Document]:
    """Everything that the path asks for; approvals are of no evidence yet."""
    made: dict[Place, Document] = {}
    for name, stage in promotion.stages.items():
        made[name, RELEASE] = released(name, bundle, at)
        made[name, APPROVAL] = Approval(name, bundle, "", by, "as before", at)
        if stage.rehearsal is not None:
            made[name, REHEARSAL] = released(name, bundle, at, is_rehearsed=True, inventory=inventory)
        if stage.readiness is not None:
            made[name, READINESS] = ready(name, bundle, at, inventory=inventory)
        for suite in stage.tests:
            made["", suite_name(suite)] = SuiteResult(suite, bundle.release_id, bundle.git_commit, at, 12, 0)
    return made


def kept(made: Mapping[Place, Document]) -> dict[Place, Kept]:
    """The documents as they are believed, approvals of the evidence beside them."""
    found = {place: Kept(document, sha256=f"sha-{place[0]}-{place[1]}") for place, document in made.items()}
    for (stage, name), document in made.items():
        if isinstance(document, Approval) and (stage, RELEASE) in found:
            approved = replace(document, evidence_sha256=found[stage, RELEASE].sha256)
            found[stage, name] = replace(found[stage, name], document=approved)
    return found
