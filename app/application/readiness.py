"""Whether every item of readiness.yml is shown of a bundle, and still holds: green, red or unseen, and unseen is not green.

Nothing here reads a file, asks a host or believes a signature: whoever calls has done so, and says what was seen or why nothing was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from app.application.promotion import (
    APPROVAL,
    CLOCK_DIFFERENCE,
    RELEASE,
    Attestation,
    Judge,
    Place,
    Row,
    ShownItem,
    attestation_name,
    moment,
    suite_name,
)
from app.contracts.loader import ReadinessItem

LOOK_AGAIN = "ask again where it can be seen"


class MalformedError(Exception):
    """A file that a probe reads is not what it should be; the message names it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look came to.

    Attributes:
        data: what was seen, as JSON values.
        problems: what is wrong by the word of who looked, a line each.
        unseen: why nothing was seen; empty where something was.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    unseen: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen of a bundle, of the commit that it was built from, and of the environment that it is to go to.

    Attributes:
        manifest: of the bundle, its signature judged.
        files: SHA-256 of every file that lies in the bundle, by name.
        archives: what is wrong within an archive of the bundle, by name; one that is sound has no entry.
        documents: contents of the bundle's declarations, by name; of one that could not be read there is none.
        runbook: the bundle's page for operators.
        sights: what else was looked at, by name: source, hosts, configuration, secrets, topics, live, job-types, plan.
    """

    manifest: Mapping[str, Any]
    files: Mapping[str, str]
    archives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    runbook: str = ""
    sights: Mapping[str, Sight] = field(default_factory=dict)

    def sight(self, name: str) -> Sight:
        """Return what one look came to."""
        return self.sights.get(name, Sight(unseen=f"{name}: nobody looked"))

    def document(self, name: str) -> Any:
        """Return what a declaration of the bundle says.

        Raises:
            MalformedError: it is missing, or cannot be read.
        """
        if not self.documents.get(name):
            raise MalformedError(f"{name}: expected a declaration, found none that can be read")
        return self.documents[name]

    def listed(self, pattern: str) -> dict[str, str]:
        """Return the SHA-256 of each file that the manifest lists and a pattern matches, by name, in order."""
        names = [name for name in sorted(self.manifest["files"]) if _matches(name, pattern)]
        return {name: self.manifest["files"][name]["sha256"] for name in names}

    @property
    def is_first(self) -> bool:
        """Tell whether nothing of the platform is installed yet, by the word of every host."""
        return is_bare(self.sight("hosts"))


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe says.

    Attributes:
        summary: what is there, in a line.
        shown: what was looked at, as JSON values.
        problems: what was expected and what was found, a line each.
        unseen: why it could not look; empty where it could.
    """

    summary: str
    shown: Any
    problems: tuple[str, ...] = ()
    unseen: str = ""


Probe = Callable[[ReadinessItem, Facts], Found]


@dataclass(frozen=True)
class ReadinessJudge:
    """Holds what was seen to the items of readiness.yml.

    Args:
        items: what readiness.yml asks for.
        probes: who looks, by the name that an item gives.
        path: judges what stages have shown of this bundle, at the same moment; it holds attestations as well.
        facts: what was seen.
        environment: where the release is to go.
    """

    items: Mapping[str, ReadinessItem]
    probes: Mapping[str, Probe]
    path: Judge
    facts: Facts
    environment: str

    def judged(self) -> dict[str, ShownItem]:
        """Say of each item what there is, in the order of readiness.yml."""
        return {name: self._judged(name, item) for name, item in self.items.items()}

    def _judged(self, name: str, item: ReadinessItem) -> ShownItem:
        """Red where anything is wrong, else unseen where anything could not be seen, else green for as long as its oldest part holds."""
        found = [each for part in (self._bundled, self._evidenced, self._probed) for each in part(item)]
        rows = [row for row, _ in self._rows(item)]
        if item.attested:
            row, attested = self._attested(name, item)
            rows.append(row)
            found.append(attested)
        shown = [each.shown for each in found]
        seen = json.dumps(shown, sort_keys=True, default=str)
        sha256 = hashlib.sha256(seen.encode()).hexdigest()
        problems = [problem for each in found for problem in each.problems]
        unseen = [each.unseen for each in found if each.unseen]
        now = self.path.now
        at = min((row.at for row in rows if row.at), default=now)
        until = min([at + item.valid, *(row.until for row in rows if row.until)])
        if not problems and not unseen and until <= now:
            problems = [f"held until {moment(until)}"]
        if problems:
            return ShownItem("red", "; ".join(problems), at, None, sha256, json.loads(seen), item.remedy)
        if unseen:
            return ShownItem("unseen", "; ".join(unseen), remedy=LOOK_AGAIN)
        detail = "; ".join(each.summary for each in found)
        return ShownItem("green", detail, at, until, sha256, json.loads(seen))

    def _bundled(self, item: ReadinessItem) -> Iterator[Found]:
        """Hold the item's files to the signed manifest."""
        if not item.files:
            return
        problems, listed = [], {}
        for pattern in item.files:
            matched = self.facts.listed(pattern)
            listed.update(matched)
            if not matched:
                problems.append(f"{pattern}: expected it in the bundle, the manifest lists none")
        for name, sha256 in listed.items():
            found = self.facts.files.get(name)
            if found != sha256:
                what = f"found {found[:12]}" if found else "it is missing"
                problems.append(f"{name}: expected SHA-256 {sha256[:12]}, {what}")
            else:
                problems += self.facts.archives.get(name, ())
        yield Found(f"{len(listed)} files as signed", {"files": listed}, tuple(problems))

    def _evidenced(self, item: ReadinessItem) -> Iterator[Found]:
        for row, stage in self._rows(item):
            place = f"{stage}: {row.what}"
            kept = self.path.kept.get(_place_of(row, stage))
            shown = {"evidence": place, "at": row.at, "says": row.detail, "sha256": kept.sha256 if kept else ""}
            wrong = f"{place}: expected it passed and not expired, found it {row.state}{f' ({row.detail})' if row.detail else ''}"
            yield Found(f"{place}: {row.detail}", shown, () if row.state == "there" else (wrong,))

    def _probed(self, item: ReadinessItem) -> Iterator[Found]:
        if item.probe is None:
            return
        try:
            yield self.probes[item.probe](item, self.facts)
        except MalformedError as error:
            yield Found("", {}, (str(error),))

    def _rows(self, item: ReadinessItem) -> Iterator[tuple[Row, str]]:
        for stage, kinds in item.evidence.items():
            yield from ((row, stage) for row in self._of_stages[stage] if row.what.partition(" ")[0] in kinds)

    @cached_property
    def _of_stages(self) -> Mapping[str, tuple[Row, ...]]:
        asked = {stage for item in self.items.values() for stage in item.evidence}
        return {stage: tuple(self.path.shown(stage)) for stage in asked}

    def _attested(self, name: str, item: ReadinessItem) -> tuple[Row, Found]:
        """Hold a person's word to this bundle and this environment, and to its time."""
        kept = self.path.kept.get((self.environment, attestation_name(name)))
        nothing = Row(self.environment, name, "missing")
        if kept is None:
            return nothing, Found("", {}, ("expected the signed word of one of promotion_approvers, found none",))
        document = kept.document
        if kept.refusal or not isinstance(document, Attestation):
            return nothing, Found("", {}, (kept.refusal or "expected an attestation, found another document",))
        expected = (name, self.environment)
        problems = []
        if (document.item, document.environment) != expected:
            problems.append(f"expected {name} for {self.environment}, found {document.item} for {document.environment}")
        elif refusal := self.path.bundle_refusal(document.bundle):
            problems.append(f"attested by {document.by}, but it {refusal}")
        elif document.at > self.path.now + CLOCK_DIFFERENCE:
            problems.append(f"attested by {document.by} at {moment(document.at)}, which is to come")
        elif document.at + item.valid <= self.path.now:
            problems.append(f"attested by {document.by}, held until {moment(document.at + item.valid)}")
        shown = {"attestation_sha256": kept.sha256, "by": document.by, "reason": document.reason}
        row = Row(self.environment, name, "there", at=document.at)
        return row, Found(f"{document.by}: {document.reason}", shown, tuple(problems))


def is_bare(hosts: Sight) -> bool:
    """Tell whether every host said what it has, and none has anything."""
    return not hosts.unseen and not hosts.data.get("installed")


def _place_of(row: Row, stage: str) -> Place:
    """Return where the document lies that a row is about."""
    kind, _, suite = row.what.partition(" ")
    if suite:
        return "", suite_name(suite)
    return stage, APPROVAL if kind == APPROVAL else RELEASE


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and PurePosixPath(name).match(pattern)
