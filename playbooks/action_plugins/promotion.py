"""Judges whether a release may come to the environment of the inventory, or whether a person may approve that it leaves it, or attest an item.

Looks at files of the control machine only. What is missing is no failure of the task: the play shows the table first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "roles/artifact_build/files"))

from artifact_build.refusal import RefusedError

from app.application.promotion import (
    APPROVAL,
    READINESS,
    REHEARSAL,
    RELEASE,
    Approval,
    Attestation,
    Judge,
    Place,
    Row,
    Subject,
    Verdict,
    attestation_name,
    suite_name,
)
from app.contracts.loader import Promotion, load_promotion, load_readiness
from app.runtime.columns import aligned
from playbooks.module_utils import evidence_files
from playbooks.module_utils.inventory_digest import digest
from roles.app_release.module_utils.bundle_verification import UntrustedError

DOCUMENTATION = r"""
name: promotion
short_description: Judge whether a release may come to an environment, approve that it leaves it, or attest what no machine can know
options:
  state:
    description: >-
      V(judged) looks at what the stages before have shown; V(approved) signs that the release may leave this one; V(attested) signs an item of
      readiness.yml for the release that is to come here.
    choices: [judged, approved, attested]
    required: true
  directory: {description: The folder of evidence., required: true}
  bundle: {description: Folder of the bundle., required: true}
  environment: {description: Name of the environment., required: true}
  inventory: {description: Its folder., required: true}
  signers: {description: "Public keys whose word bundles, releases and tests need, each C(ssh-ed25519 KEY NAME).", required: true}
  approvers: {description: "Public keys of persons who may approve, each C(ssh-ed25519 KEY NAME).", required: true}
  key: {description: "The person's key, or its public half where the agent of ssh has it. For V(approved) and V(attested)."}
  reason: {description: Why. For V(approved) and V(attested).}
  item: {description: Which item. For V(attested).}
"""

COLUMNS = ("stage", "evidence", "state", "taken", "holds until", "what it says")


class ActionModule(ActionBase):
    """Reads evidence, and writes nothing but a person's word."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        {"state", "directory", "bundle", "environment", "inventory", "signers", "approvers", "key", "reason", "item"}
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the table as `report` and what stands against it as `problems`, a line each."""
        super().run(tmp, task_vars)
        options = self._task.args
        promotion = load_promotion()
        environment = options["environment"]
        if environment not in promotion.stages:
            raise AnsibleActionFail(
                f"cpq_env: {environment} is on no release's path ({', '.join(promotion.stages)}): "
                f"{promotion.outside.get(environment, 'app/contracts/promotion.yml does not name it')} Use release.yml"
            )
        if options["state"] == "attested":
            return {"changed": True, "problems": [], **self._attest()}
        judge = self._judge(promotion)
        if options["state"] == "judged":
            verdict = judge.verdict(environment)
            return {"changed": False, "report": text(verdict.rows), "problems": list(verdict.problems)}
        rows = [row for row in judge.shown(environment) if row.what != APPROVAL]
        problems = list(Verdict(tuple(rows)).problems)
        result = {"report": text(rows), "problems": problems}
        if problems:
            return {"changed": False, **result}
        return {"changed": True, **result, **self._approve(judge)}

    def _judge(self, promotion: Promotion) -> Judge:
        options = self._task.args
        signers, approvers = options["signers"], options["approvers"]
        directory, environment = Path(options["directory"]), options["environment"]
        bundle = subject_of(options["bundle"], signers)
        kept = evidence_files.read_all(directory, bundle.release_id, places(promotion), signers, approvers)
        inventories = {environment: digest(Path(options["inventory"]))}
        return Judge(promotion, bundle, datetime.now(UTC), kept, inventories, frozenset(load_readiness()))

    def _approve(self, judge: Judge) -> dict[str, Any]:
        environment, by = self._task.args["environment"], self._person()
        approval = Approval(environment, judge.bundle, judge.kept[environment, RELEASE].sha256, *by, judge.now)
        return self._sign(approval, (environment, APPROVAL))

    def _attest(self) -> dict[str, Any]:
        """Sign an item of readiness.yml that asks for it."""
        options = self._task.args
        item, environment = str(options.get("item")), options["environment"]
        may = [name for name, about in load_readiness().items() if about.attested]
        if item not in may:
            raise AnsibleActionFail(
                f"attested: {item} is nothing that a person attests; expected one of {', '.join(may)}"
            )
        bundle = subject_of(options["bundle"], options["signers"])
        attestation = Attestation(item, environment, bundle, *self._person(), datetime.now(UTC))
        report = f"{item} for {environment}: {attestation.by}: {attestation.reason}\n"
        return {"report": report, **self._sign(attestation, (environment, attestation_name(item)))}

    def _person(self) -> tuple[str, str]:
        """Return who signs, by the name of the key, and why."""
        options = self._task.args
        key, reason = Path(options["key"]).expanduser(), str(options["reason"]).strip()
        if not reason:
            raise AnsibleActionFail("approval: expected the reason, as in -e \"approval='load and errors as before'\"")
        public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
        try:
            material = public.read_text(encoding="utf-8").split()[:2]
        except OSError as error:
            raise AnsibleActionFail(f"approval_key: {public}: {error.strerror}") from error
        names = [evidence_files.name_of(each) for each in options["approvers"] if each.split()[:2] == material]
        if not names:
            may = ", ".join(map(evidence_files.name_of, options["approvers"])) or "nobody"
            raise AnsibleActionFail(f"approval_key: {public} is none of promotion_approvers: {may}")
        return names[0], reason

    def _sign(self, document: Approval | Attestation, place: Place) -> dict[str, Any]:
        if self._task.check_mode:
            return {"approved_by": document.by}
        directory, key = Path(self._task.args["directory"]), Path(self._task.args["key"]).expanduser()
        try:
            path = evidence_files.write(directory, document.bundle.release_id, place, document, key)
        except RefusedError as error:
            raise AnsibleActionFail(
                f"approval_key: {error}; a key with a passphrase: ssh-add it and name its .pub"
            ) from error
        except OSError as error:
            raise AnsibleActionFail(f"cpq_evidence_dir: {error.filename}: {error.strerror}") from error
        return {"approved_by": document.by, "path": str(path)}


def subject_of(bundle: str, signers: Sequence[str]) -> Subject:
    """Return which bundle a folder holds; fail by its name where it is not signed by one of `signers`, or is not there."""
    try:
        return evidence_files.subject(Path(bundle), signers)
    except UntrustedError as error:
        raise AnsibleActionFail(f"signature: {bundle}: {error}") from error
    except OSError as error:
        raise AnsibleActionFail(f"release_bundle: {error.filename}: {error.strerror}") from error


def places(promotion: Promotion) -> Iterable[Place]:
    """Return where every document of the path lies."""
    for name, stage in promotion.stages.items():
        yield from ((name, document) for document in (RELEASE, REHEARSAL, APPROVAL, READINESS))
        yield from (("", suite_name(suite)) for suite in stage.tests)


def text(rows: Iterable[Row]) -> str:
    """Return a table of what there is, a line for each piece of evidence."""
    lines = [COLUMNS]
    for row in rows:
        at, until = (moment.strftime("%Y-%m-%d %H:%M") if moment else "-" for moment in (row.at, row.until))
        lines.append((row.stage, row.what, row.state, at, until, row.detail or "-"))
    if len(lines) == 1:
        return "nothing is asked for: it is the first stage\n"
    return "".join(f"{line}\n" for line in aligned(lines))
