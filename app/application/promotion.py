"""Whether a release may come to a stage: what the stages before it have shown of it, and whether that still holds.

Nothing here reads a file or believes a signature: whoever calls has done both, and says of each document what came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from app.contracts.loader import EvidenceKind, Promotion

RELEASE = "release"
APPROVAL = "approval"
REHEARSAL = "rehearsal"
READINESS = "readiness"
# Clocks of two machines may differ by so much; evidence from later than that is from no clock.
CLOCK_DIFFERENCE = timedelta(minutes=5)

State = Literal["there", "missing", "expired", "failed", "refused"]
Colour = Literal["green", "red", "unseen"]
Place = tuple[str, str]
"""Where a document is kept: environment, empty for what concerns none, and name."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Which bundle evidence is of.

    Attributes:
        digest: SHA-256 of all that is released anywhere: a bundle with the simulator and one without it have the same.
        manifest_sha256: SHA-256 of the manifest of this very bundle.
    """

    release_id: str
    git_commit: str
    build_id: str
    digest: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of evidence: what came of it, when, in a line, and what shows it as JSON values."""

    result: Literal["passed", "failed"]
    at: datetime
    summary: str
    shown: Any = None


@dataclass(frozen=True, slots=True)
class ReleaseEvidence:
    """What a release that was proven left behind.

    Attributes:
        is_rehearsed: whether the machines were those of a rehearsal.
        inventory_sha256: digest of the inventory that it was released by.
        record: `SEQUENCE:HASH` of the last entry in the environment's record of releases.
    """

    environment: str
    is_rehearsed: bool
    inventory_sha256: str
    bundle: Subject
    operator: str
    record: str
    parts: Mapping[EvidenceKind, Part]


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What one stage of `make test` came to, for a commit."""

    suite: str
    release_id: str
    git_commit: str
    at: datetime
    passed: int
    failed: int
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's word that a release may leave an environment.

    Attributes:
        evidence_sha256: SHA-256 of the release's evidence that the person saw.
        by: the name of the key that signed it.
    """

    environment: str
    bundle: Subject
    evidence_sha256: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Attestation:
    """A person's word for an item of readiness.yml that no machine can know, for one bundle.

    Attributes:
        environment: where the release is to go.
        by: the name of the key that signed it.
    """

    item: str
    environment: str
    bundle: Subject
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ShownItem:
    """What came of one item of readiness.yml.

    Attributes:
        at, until: from when to when it holds; None where it was not green.
        detail: what it says, or what is wrong with it.
        evidence_sha256: SHA-256 of what was looked at, as JSON with sorted keys; empty where nothing was seen.
        shown: what was looked at, as JSON values.
        remedy: what turns it green, empty where it is.
    """

    colour: Colour
    detail: str
    at: datetime | None = None
    until: datetime | None = None
    evidence_sha256: str = ""
    shown: Any = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What all items of readiness.yml came to, for one bundle and one environment.

    Attributes:
        inventory_sha256: digest of the inventory that was judged.
    """

    environment: str
    inventory_sha256: str
    bundle: Subject
    operator: str
    at: datetime
    items: Mapping[str, ShownItem]


Document = ReleaseEvidence | SuiteResult | Approval | Attestation | Readiness


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that is there: what it says and the SHA-256 of its bytes, or why it is not believed."""

    document: Document | None = None
    sha256: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What is there of one piece of evidence.

    Attributes:
        what: its kind, for tests with the stage's name.
        until: when it expires; None where there is none that holds.
        detail: what it says, or what is wrong with it.
        remedy: what gives it, empty where it is there.
    """

    stage: str
    what: str
    state: State
    detail: str = ""
    at: datetime | None = None
    until: datetime | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that was asked for, in the order of the path."""

    rows: tuple[Row, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a line for each reason against it, naming stage, evidence, reason and remedy; what shares a reason shares a line."""
        grouped: dict[tuple[str, str, str, str], list[str]] = {}
        for row in self.rows:
            if row.state != "there":
                grouped.setdefault((row.stage, row.state, row.detail, row.remedy), []).append(row.what)
        return tuple(
            f"{stage}: {', '.join(whats)}: {state}{f' ({detail})' if detail else ''}; {remedy}"
            for (stage, state, detail, remedy), whats in grouped.items()
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds what is kept to the contract, at one moment, for one bundle.

    Attributes:
        kept: the documents that are there.
        inventories: digest of the inventory that a rehearsal and an answer of readiness.yml have to be of, by environment.
        items: the items of readiness.yml, all of which an answer must have.
    """

    promotion: Promotion
    bundle: Subject
    now: datetime
    kept: Mapping[Place, Kept] = field(default_factory=dict)
    inventories: Mapping[str, str] = field(default_factory=dict)
    items: frozenset[str] = frozenset()

    def verdict(self, stage: str) -> Verdict:
        """Say whether the bundle may come to a stage: all that its predecessors must show, its own rehearsal and its readiness."""
        rows = [row for earlier in self.promotion.before(stage) for row in self.shown(earlier)]
        return Verdict((*rows, *self._rehearsed(stage), *self._ready(stage)))

    def shown(self, stage: str) -> Iterator[Row]:
        """Say what there is of each kind of evidence that a stage must show."""
        released = self._released(stage, RELEASE)
        for kind, source in self.promotion.kinds.items():
            if source.document == "release":
                yield released[kind]
            elif source.document == "tests":
                yield from (self._tested(stage, name) for name in self.promotion.stages[stage].tests)
            else:
                yield self._approved(stage)

    def is_proven(self, environment: str, *, is_rehearsed: bool) -> bool:
        """Tell whether an environment, a stage or not, has whole evidence of its release that still holds."""
        name = REHEARSAL if is_rehearsed else RELEASE
        return all(row.state == "there" for row in self._released(environment, name).values())

    def _rehearsed(self, stage: str) -> Iterable[Row]:
        if self.promotion.stages[stage].rehearsal is None:
            return ()
        return self._released(stage, REHEARSAL).values()

    def _ready(self, stage: str) -> Iterator[Row]:
        """Judge the answer of readiness.yml: of this very bundle and inventory, young enough, each item green and still holding."""
        valid = self.promotion.stages[stage].readiness
        if valid is None:
            return
        remedy = f"ask for it: make readiness ENV={stage} BUNDLE=DIR"
        kept = self.kept.get((stage, READINESS))
        if kept is None:
            yield Row(stage, READINESS, "missing", remedy=remedy)
            return
        document = kept.document
        if kept.refusal or not isinstance(document, Readiness):
            yield Row(stage, READINESS, "refused", kept.refusal or "is no answer of readiness.yml", remedy=remedy)
        elif refusal := self._readiness_refusal(stage, document):
            yield Row(stage, READINESS, "refused", refusal, remedy=remedy)
        else:
            yield self._all_green(stage, document, valid, remedy)

    def _readiness_refusal(self, stage: str, document: Readiness) -> str:
        found = document.bundle
        if document.environment != stage:
            return f"is of environment {document.environment}"
        if found.manifest_sha256 != self.bundle.manifest_sha256:
            return _another(found.release_id, found.manifest_sha256, self.bundle.manifest_sha256)
        if document.inventory_sha256 != self.inventories.get(stage):
            return "is of another inventory: it was altered since"
        if lacking := sorted(self.items - document.items.keys()):
            return f"was not asked for {', '.join(lacking)}"
        return ""

    def _all_green(self, stage: str, document: Readiness, valid: timedelta, remedy: str) -> Row:
        others: dict[str, list[str]] = {}
        for name, item in document.items.items():
            if item.colour != "green":
                others.setdefault(item.colour, []).append(name)
        if others:
            detail = "; ".join(f"{colour}: {', '.join(names)}" for colour, names in sorted(others.items()))
            return Row(stage, READINESS, "failed", detail, document.at, remedy=remedy)
        holds = {name: item.until for name, item in document.items.items()}
        ended = sorted(name for name, until in holds.items() if until is None or until <= self.now)
        if ended:
            return Row(stage, READINESS, "expired", f"holds no more: {', '.join(ended)}", document.at, remedy=remedy)
        row = Row(stage, READINESS, "there", f"{len(holds)} items are green", document.at)
        judged = self._timed(row, valid, remedy, is_passed=True)
        return replace(judged, until=min(filter(None, [judged.until, *holds.values()]))) if judged.until else judged

    def _released(self, environment: str, name: str) -> dict[EvidenceKind, Row]:
        """Judge each part of a release's evidence, of the environment itself or of its rehearsal."""
        kept = self.kept.get((environment, name))
        is_rehearsal = name == REHEARSAL
        release = f"ansible-playbook promote.yml -i inventories/{environment} -e release_bundle=DIR"
        remedy = f"rehearse it: make up ENV={environment}" if is_rehearsal else f"release it there: {release}"
        kinds = [kind for kind, source in self.promotion.kinds.items() if source.document == "release"]
        refusal = self._release_refusal(environment, kept, is_rehearsal=is_rehearsal) if kept else ""
        document = kept.document if kept else None
        rows = {}
        for kind in kinds:
            what = f"rehearsal {kind}" if is_rehearsal else kind
            part = document.parts.get(kind) if isinstance(document, ReleaseEvidence) else None
            if refusal:
                rows[kind] = Row(environment, what, "refused", refusal, remedy=remedy)
            elif part is None:
                rows[kind] = Row(environment, what, "missing", remedy=remedy)
            else:
                valid = self._valid(environment, kind, is_rehearsal=is_rehearsal)
                row = Row(environment, what, "there", part.summary, part.at)
                rows[kind] = self._timed(row, valid, remedy, is_passed=part.result == "passed")
        return rows

    def _release_refusal(self, environment: str, kept: Kept, *, is_rehearsal: bool) -> str:
        document = kept.document
        if kept.refusal or not isinstance(document, ReleaseEvidence):
            return kept.refusal or "is no evidence of a release"
        if document.environment != environment:
            return f"is of environment {document.environment}"
        if document.is_rehearsed != is_rehearsal:
            return "is of no rehearsal" if is_rehearsal else "is of a rehearsal, not of the environment itself"
        if is_rehearsal and document.bundle.manifest_sha256 != self.bundle.manifest_sha256:
            return _another(document.bundle.release_id, document.bundle.manifest_sha256, self.bundle.manifest_sha256)
        if is_rehearsal and document.inventory_sha256 != self.inventories.get(environment):
            return "is of another inventory: it was altered since"
        return self.bundle_refusal(document.bundle)

    def bundle_refusal(self, found: Subject) -> str:
        """Say why something is not of this bundle, with its simulator or without; empty where it is."""
        if found.digest != self.bundle.digest:
            return _another(found.release_id, found.digest, self.bundle.digest)
        return ""

    def _tested(self, stage: str, name: str) -> Row:
        what = f"tests {name}"
        remedy = f'test the commit: make evidence STAGE="{name}"'
        kept = self.kept.get(("", suite_name(name)))
        if kept is None:
            return Row(stage, what, "missing", remedy=remedy)
        document = kept.document
        if kept.refusal or not isinstance(document, SuiteResult):
            return Row(stage, what, "refused", kept.refusal or "is no evidence of tests", remedy=remedy)
        if document.suite != name:
            return Row(stage, what, "refused", f"is of the tests {document.suite}", remedy=remedy)
        if (document.release_id, document.git_commit) != (self.bundle.release_id, self.bundle.git_commit):
            found = f"{document.release_id} of commit {document.git_commit[:12]}"
            expected = f"{self.bundle.release_id} of {self.bundle.git_commit[:12]}"
            return Row(stage, what, "refused", f"is of {found}, expected {expected}", remedy=remedy)
        is_passed = document.failed == 0 and document.passed > 0
        summary = f"{document.passed} passed, {document.failed} failed"
        row = Row(stage, what, "there", summary, document.at)
        return self._timed(row, self.promotion.stages[stage].valid["tests"], remedy, is_passed=is_passed)

    def _approved(self, stage: str) -> Row:
        remedy = f"approve it: ansible-playbook approve.yml -i inventories/{stage} -e release_bundle=DIR"
        kept, evidence = self.kept.get((stage, APPROVAL)), self.kept.get((stage, RELEASE))
        if kept is None:
            return Row(stage, APPROVAL, "missing", remedy=remedy)
        document = kept.document
        if kept.refusal or not isinstance(document, Approval):
            return Row(stage, APPROVAL, "refused", kept.refusal or "is no approval", remedy=remedy)
        refusal = self.bundle_refusal(document.bundle)
        if document.environment != stage:
            refusal = f"is of environment {document.environment}"
        elif not refusal and evidence is not None and document.evidence_sha256 != evidence.sha256:
            refusal = "is of other evidence: the release was proven again since"
        if refusal:
            return Row(stage, APPROVAL, "refused", refusal, remedy=remedy)
        row = Row(stage, APPROVAL, "there", f"{document.by}: {document.reason}", document.at)
        return self._timed(row, self.promotion.stages[stage].valid["approval"], remedy, is_passed=True)

    def _valid(self, environment: str, kind: EvidenceKind, *, is_rehearsal: bool) -> timedelta | None:
        """Return how long a part holds; None for ever, in an environment that is no stage."""
        stage = self.promotion.stages.get(environment)
        if stage is None:
            return None
        return stage.rehearsal if is_rehearsal and stage.rehearsal else stage.valid[kind]

    def _timed(self, row: Row, valid: timedelta | None, remedy: str, *, is_passed: bool) -> Row:
        """Give a row the state that follows from its result and its time."""
        at = row.at or self.now
        until = at + valid if valid else None
        if at > self.now + CLOCK_DIFFERENCE:
            return Row(row.stage, row.what, "refused", f"is dated {moment(at)}, which is to come", remedy=remedy)
        if not is_passed:
            return Row(row.stage, row.what, "failed", row.detail, at, remedy=remedy)
        if until is not None and until <= self.now:
            return Row(row.stage, row.what, "expired", f"held until {moment(until)}", at, until, remedy)
        return Row(row.stage, row.what, "there", row.detail, at, until)


def attestation_name(item: str) -> str:
    """Return the name of the document with a person's word for an item of readiness.yml."""
    return f"attestation-{item}"


def suite_name(stage: str) -> str:
    """Return the name of the document with the results of a test stage."""
    return f"tests-{stage}"


def _another(release_id: str, found: str, expected: str) -> str:
    return f"is of another bundle: {release_id} with {found[:12]}, expected {expected[:12]}"


def moment(at: datetime) -> str:
    """Return a moment as people read it."""
    return at.isoformat(timespec="seconds")
