"""A release of which every item of readiness.yml is shown: bundle, commit, evidence and what hosts said, all of it to be spoilt by tests."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from artifact_build.bundle import LAID_OPEN, RENAMED
from artifact_build.signature import ensure_key, public_key_of

from app.application.promotion import (
    READINESS,
    RELEASE,
    Attestation,
    Document,
    Place,
    Readiness,
    ShownItem,
    Subject,
    SuiteResult,
    attestation_name,
    suite_name,
)
from app.application.readiness_probes import CHANGELOG, DASHBOARDS, RULE_TESTS, RULES, RUNBOOK
from app.contracts.loader import load_readiness, load_units
from playbooks.filter_plugins.release import release_described
from playbooks.module_utils import evidence_files
from playbooks.module_utils.readiness_facts import FIGURES
from tests.support.ansible_modules import load
from tests.support.bundles import seal, write_bundle
from tests.support.promotion import PROMOTION, released

ROOT = Path(__file__).resolve().parents[2]
ITEMS = load_readiness()
ENVIRONMENT = "prod"
# What is installed while the release is looked at.
FORMER = "cpq-oms-2031.01.04-001"
_SOURCES = (CHANGELOG, DASHBOARDS, f"{RULES}*.yml", f"{RULE_TESTS}*.yml", RUNBOOK, "*.yml")
_FIGURE = re.compile(r"\bcpq_\w+")

readiness = load("readiness", ROOT / "playbooks/action_plugins")


@dataclass
class World:
    """A control machine, and what an environment said to it.

    Attributes:
        folder: everything lies below it: bundle, evidence, source (the checkout), key, key of an approver.
        looked: what the tasks of readiness.yml came to.
        variables: of the play: groups and hostvars.
        rotation: name of the secret that is being rotated.
        said: what the newest answer was beside the document.
    """

    folder: Path
    looked: dict[str, Any]
    variables: dict[str, Any]
    rotation: str = ""
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return self.folder / "bundle"

    @property
    def key(self) -> Path:
        """The key that signs bundles and evidence."""
        return self.folder / "key"

    @property
    def approver(self) -> Path:
        """The key of the person that attests."""
        return self.folder / "approver"

    @property
    def subject(self) -> Subject:
        """Which bundle it is."""
        return evidence_files.subject(self.bundle, [self._public(self.key)])

    def copied(self, folder: Path) -> World:
        """The same, to be spoilt."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return World(folder, copy.deepcopy(self.looked), copy.deepcopy(self.variables), self.rotation)

    def ask(self) -> Mapping[str, ShownItem]:
        """Judge every item as readiness.yml does, and read the answer that is left."""
        self.said = self.run()
        answer = self.read((ENVIRONMENT, READINESS))
        assert isinstance(answer, Readiness)
        return answer.items

    def run(self, *, is_rehearsed: bool = False, check: bool = False) -> dict[str, Any]:
        """Call the action plugin without the playbook around it."""
        options = {
            "directory": str(self.folder / "evidence"),
            "bundle": str(self.bundle),
            "environment": ENVIRONMENT,
            "inventory": str(ROOT / "prod"),
            "signers": [self._public(self.key)],
            "approvers": [self._public(self.approver)],
            "key": str(self.key),
            "checkout": str(self.folder / "source"),
            "is_rehearsed": is_rehearsed,
            "vault": str(self.folder / "vault.yml"),
            "rotation": self.rotation,
            "facts": "release_before",
            "looked": self.looked,
        }
        action = object.__new__(readiness.ActionModule)
        action._task = SimpleNamespace(args=options, check_mode=check, async_val=0, action="readiness")
        action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
        found: dict[str, Any] = action.run(task_vars=self.variables)
        return found

    def read(self, place: Place) -> Document:
        """A document that is believed."""
        by = self.approver if evidence_files.is_persons(place) else self.key
        kept = evidence_files.read(self.folder / "evidence", self.subject.release_id, place, [self._public(by)])
        assert kept is not None
        assert kept.document is not None, kept.refusal
        return kept.document

    def write(self, place: Place, document: Document, key: Path | None = None) -> None:
        """Sign a document in place of the one before, by default with the key whose word it has to be."""
        by = key or (self.approver if evidence_files.is_persons(place) else self.key)
        evidence_files.write(self.folder / "evidence", self.subject.release_id, place, document, by)

    def alter(self, place: Place, change: Callable[[Any], Any]) -> None:
        """Sign a document anew with something changed in it."""
        self.write(place, change(self.read(place)))

    def reissue(self) -> None:
        """Sign the bundle as it lies there now, and let all that is shown be of this one."""
        seal(self.bundle, self.key)
        self.show_everything()

    def commit(self) -> None:
        """Commit the checkout as it lies there now, and build the bundle of it."""
        for words in (("add", "--all"), ("commit", "--quiet", "--message", "as it is")):
            git(self.folder / "source", *words)
        manifest = self.bundle / "manifest.json"
        document = json.loads(manifest.read_text())
        document["git_commit"] = git(self.folder / "source", "rev-parse", "HEAD").strip()
        manifest.write_text(json.dumps(document))
        self.reissue()

    def show_everything(self) -> None:
        """Leave what stages and persons have to show."""
        bundle, now = self.subject, datetime.now(UTC)
        asked = {(stage, kind) for item in ITEMS.values() for stage, kinds in item.evidence.items() for kind in kinds}
        for stage in {stage for stage, _ in asked}:
            self.write((stage, RELEASE), released(stage, bundle, now))
        for suite in (suite for stage, kind in asked if kind == "tests" for suite in PROMOTION.stages[stage].tests):
            result = SuiteResult(suite, bundle.release_id, bundle.git_commit, now, 12, 0)
            self.write(("", suite_name(suite)), result)
        by = evidence_files.name_of(self._public(self.approver))
        for name in (name for name, item in ITEMS.items() if item.attested):
            attestation = Attestation(name, ENVIRONMENT, bundle, by, "as before", now)
            self.write((ENVIRONMENT, attestation_name(name)), attestation)

    def _public(self, key: Path) -> str:
        return public_key_of(key).read_text().strip()


def whole_world(folder: Path) -> World:
    """Make a release that is ready in every item."""
    world = World(folder, {}, {"groups": {"all": ["api-1", "localhost"]}, "hostvars": {}})
    folder.mkdir(parents=True, exist_ok=True)
    for key in (world.key, world.approver):
        ensure_key(key)
    _lay_source(folder / "source")
    write_bundle(world.bundle, (unit for unit in load_units() if unit != "simulator"), world.key)
    _lay_open(world.bundle)
    (world.bundle / "sbom.cdx.json").write_text("{}\n")
    seal(world.bundle, world.key)
    world.commit()
    world.variables["hostvars"] = {"api-1": {"release_before": {"installed": {"api": FORMER}}}, "localhost": {}}
    _look(world)
    return world


def git(folder: Path, *words: str) -> str:
    """What git says of a checkout, whatever the user's configuration."""
    person = ("-c", "user.name=tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *person, "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout


def processes_of(bundle: Path) -> dict[str, list[str]]:
    """The contents of a bundle's processes, as the engine has them when they are deployed."""
    return {
        path.stem: [hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted((bundle / "bpmn").glob("*.bpmn"))
    }


def _lay_source(folder: Path) -> None:
    for pattern in _SOURCES:
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    # One file in place of some hundreds, with the names of figures that they have.
    shown = {name for pattern in FIGURES for path in ROOT.glob(pattern) for name in _FIGURE.findall(path.read_text())}
    (folder / "app/runtime").mkdir(parents=True)
    (folder / "app/runtime/metrics.py").write_text("".join(f"{name}\n" for name in sorted(shown)))
    git(folder, "init", "--quiet")


def _lay_open(bundle: Path) -> None:
    shutil.rmtree(bundle / "contracts")
    for name in LAID_OPEN:
        target = bundle / RENAMED.get(name, name.removeprefix("app/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copyfile(ROOT / name, target)


def _look(world: World) -> None:
    """Let the operators' commands judge the bundle beside a release before it with the same interfaces."""
    migrations = {
        path.stem: {"content_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "release_id": FORMER}
        for path in (world.bundle / "migrations").glob("[0-9]*.sql")
        if not path.name.endswith(".rollback.sql")
    }
    live = {
        "deployed": processes_of(world.bundle),
        "migrations": migrations,
        "reached": [],
        "workers": [],
        "job_types": [],
    }
    former = release_described(str(world.bundle))
    units = {unit: [FORMER] for unit in former["units"]}
    commands = [
        {"arguments": ["bpmn", "check", "--given", "--bundle", str(world.bundle)], "input": live},
        {
            "arguments": ["release", "plan", "--bundle", str(world.bundle)],
            "input": {"installed": {FORMER: former["files"]}, "units": units, "live": live, "owner": "erika"},
        },
    ]
    done = subprocess.run(
        [sys.executable, "-m", "app.entrypoints.admin", "--json", "--operator", "tests", "batch", "--keep-going"],
        cwd=ROOT,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    check, plan = json.loads(done.stdout)["data"]["results"]
    said = {"release live": {**_nothing_wrong(), "data": live}, "topics diff": _nothing_wrong()}
    world.looked = {
        "schema": {"changed": False},
        "settings": {"changed": False},
        "live": {"by_command": said},
        "job-types": {"by_command": {"bpmn check": check}},
        "plan": {"by_command": {"release plan": plan}},
    }


def _nothing_wrong() -> dict[str, Any]:
    return {"changes": [], "problems": [], "data": {}}
