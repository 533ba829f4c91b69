"""Leaves signed evidence of a proven release on the control machine, and tells whether there is some that holds.

It runs on the control machine whatever host its task is for, and believes what the plays before it found: they have failed where anything
was amiss.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "roles/artifact_build/files"))

from artifact_build.refusal import RefusedError
from artifact_build.signature import ensure_key

from app.application.promotion import REHEARSAL, RELEASE, Judge, Part, ReleaseEvidence, Subject
from app.contracts.loader import EvidenceKind, load_promotion
from playbooks.action_plugins.cpq_admin import operator
from playbooks.module_utils import evidence_files
from playbooks.module_utils.inventory_digest import digest
from playbooks.module_utils.record_copy import RecordCopy
from roles.app_release.module_utils.bundle_verification import UntrustedError

DOCUMENTATION = r"""
name: release_evidence
short_description: Leave signed evidence of a proven release, or tell whether there is some that holds
options:
  state:
    description: V(written) signs and writes it; V(held) only tells, as C(is_held).
    choices: [held, written]
    default: held
  directory: {description: The folder of evidence., required: true}
  bundle: {description: Folder of the bundle., required: true}
  signers: {description: "Public keys of those who may sign, each C(ssh-ed25519 KEY NAME).", required: true}
  key: {description: "The key that signs; the public one lies beside it.", required: true}
  environment: {description: Name of the environment., required: true}
  inventory: {description: Its folder., required: true}
  is_rehearsed: {description: Whether its machines are those of a rehearsal., required: true}
  migrations: {description: What C(migrate plan) said before the first change. For V(written).}
  contracts: {description: What C(contracts compare) said. For V(written).}
  installed: {description: "The release of each deployable of the bundle, by host. For V(written)."}
  smoke: {description: The steps of the smoke test. For V(written).}
"""


class ActionModule(ActionBase):
    """Reads and writes files of the control machine only."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        {"state", "directory", "bundle", "signers", "key", "environment", "inventory", "is_rehearsed"}
        | {"migrations", "contracts", "installed", "smoke"}
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell, or write and say where."""
        super().run(tmp, task_vars)
        options = self._task.args
        directory, key = Path(options["directory"]), Path(options["key"])
        # What this machine signed itself it believes, also where the inventory has another machine's key.
        own = key.with_name(f"{key.name}.pub")
        signers = [*options["signers"], *([own.read_text().strip()] if own.is_file() else [])]
        try:
            bundle = evidence_files.subject(Path(options["bundle"]), signers)
        except UntrustedError as error:
            raise AnsibleActionFail(f"signature: {options['bundle']}: {error}") from error
        is_rehearsed = boolean(options["is_rehearsed"])
        environment = options["environment"]
        place = (environment, REHEARSAL if is_rehearsed else RELEASE)
        inventory = digest(Path(options["inventory"]))
        if options.get("state", "held") == "held":
            kept = evidence_files.read(directory, bundle.release_id, place, signers)
            judge = Judge(
                load_promotion(), bundle, datetime.now(UTC), {place: kept} if kept else {}, {environment: inventory}
            )
            return {"changed": False, "is_held": judge.is_proven(environment, is_rehearsed=is_rehearsed)}
        if self._task.check_mode:
            return {"changed": False}
        copy = RecordCopy(Path(self._templar.template((task_vars or {})["cpq_state_dir"])) / "release-record.jsonl")
        evidence = ReleaseEvidence(
            environment=environment,
            is_rehearsed=is_rehearsed,
            inventory_sha256=inventory,
            bundle=bundle,
            operator=operator(),
            record="".join(copy.known()[1:]),
            parts=parts(
                bundle,
                datetime.now(UTC),
                migrations=options["migrations"],
                contracts=options["contracts"],
                installed=options["installed"],
                smoke=options["smoke"],
            ),
        )
        failed = [f"{kind}: {part.summary}" for kind, part in evidence.parts.items() if part.result == "failed"]
        if failed:
            raise AnsibleActionFail(f"no evidence is left of a release that is not proven: {'; '.join(failed)}")
        try:
            ensure_key(key)
            path = evidence_files.write(directory, bundle.release_id, place, evidence, key)
        except OSError as error:
            raise AnsibleActionFail(f"cpq_evidence_dir: {error.filename}: {error.strerror}") from error
        except RefusedError as error:
            raise AnsibleActionFail(f"release_signing_key: {error}") from error
        # A note of what was proven, as the record's copy is: it changes nothing that is released.
        return {"changed": False, "path": str(path)}


def parts(
    bundle: Subject,
    at: datetime,
    *,
    migrations: Mapping[str, Any],
    contracts: Mapping[str, Any],
    installed: Mapping[str, Mapping[str, str]],
    smoke: Sequence[Mapping[str, Any]],
) -> dict[EvidenceKind, Part]:
    """Return what a release shows of itself: a part for each kind, from what its plays found.

    Args:
        bundle: what was released.
        at: when it was proven.
        migrations: the outcome of `migrate plan` before the first change.
        contracts: the outcome of `contracts compare`.
        installed: what each host runs now, `{host: {deployable: release id}}`.
        smoke: the steps, each with `step`, `passed` and `evidence`.
    """
    seen = [step for step in smoke if step["step"].endswith("migrations")]
    differences = contracts["data"]["findings"]
    beside = ", ".join(contracts["data"]["compared"])
    others = sorted(
        f"{host}: {unit} {release_id or 'nothing'}"
        for host, units in installed.items()
        for unit, release_id in units.items()
        if release_id != bundle.release_id
    )
    count = sum(map(len, installed.values()))
    return {
        "build": Part(
            "passed",
            at,
            f"{bundle.release_id} of commit {bundle.git_commit[:12]}, build {bundle.build_id}",
        ),
        "migration": Part(
            _result(bool(seen) and all(step["passed"] for step in seen)),
            at,
            "; ".join(step["evidence"] for step in seen) or "nobody looked at them",
            {"before": migrations["data"]},
        ),
        "contracts": Part(
            _result(not contracts["problems"]),
            at,
            f"{len(differences)} differences beside {beside}, none breaks"
            if beside
            else "nothing was installed before",
            {"compared": contracts["data"]["compared"], "checks": contracts["checks"]},
        ),
        "manifest": Part(
            _result(count > 0 and not others),
            at,
            f"differs: {', '.join(others)}" if others else f"{count} deployables on {len(installed)} hosts",
            {"manifest_sha256": bundle.manifest_sha256, "installed": installed},
        ),
        "smoke": Part(
            _result(bool(smoke) and all(step["passed"] for step in smoke)),
            at,
            f"{sum(step['passed'] for step in smoke)} of {len(smoke)} steps passed",
            list(smoke),
        ),
    }


def _result(is_passed: bool) -> Literal["passed", "failed"]:
    return "passed" if is_passed else "failed"
