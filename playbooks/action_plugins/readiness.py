"""Judges every item of readiness.yml for one bundle and the environment of the inventory, and signs what came of it.

Looks at files of the control machine, and at what tasks before it came to. What is not green is no failure of the task: the play shows the
table first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "roles/artifact_build/files"))

from artifact_build.refusal import RefusedError
from artifact_build.signature import ensure_key

from app.application.promotion import (
    APPROVAL,
    READINESS,
    RELEASE,
    Judge,
    Place,
    Readiness,
    ShownItem,
    attestation_name,
    suite_name,
)
from app.application.readiness import ReadinessJudge, Sight, is_bare
from app.application.readiness_probes import PROBES
from app.contracts.loader import Promotion, ReadinessItem, load_promotion, load_readiness
from app.runtime.columns import aligned
from playbooks.action_plugins.cpq_admin import operator
from playbooks.action_plugins.vault_secrets import missing, wanted
from playbooks.module_utils import evidence_files, readiness_facts
from playbooks.module_utils.inventory_digest import digest
from roles.app_release.module_utils.bundle_verification import UntrustedError

DOCUMENTATION = r"""
name: readiness
short_description: Judge every item of readiness.yml, and leave the signed answer among the evidence
options:
  directory: {description: The folder of evidence., required: true}
  bundle: {description: Folder of the bundle., required: true}
  environment: {description: Name of the environment., required: true}
  inventory: {description: Its folder., required: true}
  signers: {description: "Public keys whose word bundles, releases and tests need, each C(ssh-ed25519 KEY NAME).", required: true}
  approvers: {description: "Public keys of persons who may attest, each C(ssh-ed25519 KEY NAME).", required: true}
  key: {description: The key that signs the answer., required: true}
  checkout: {description: The git checkout that has the commit of the bundle., required: true}
  is_rehearsed: {description: Whether its machines are those of a rehearsal; then the answer is shown and not kept., required: true}
  vault: {description: The environment's vault., required: true}
  rotation: {description: Name of the secret whose rotation was begun and not ended; empty for none., required: true}
  facts: {description: Name of the variable with what release_facts found on a host., required: true}
  looked:
    description: What tasks came to, as registered; C(schema), C(settings), C(live), C(job-types) and C(plan).
    required: true
"""

COLUMNS = ("item", "is", "taken", "holds until", "evidence", "what it says")


class ActionModule(ActionBase):
    """Reads evidence, and writes nothing but the answer."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        {"directory", "bundle", "environment", "inventory", "signers", "approvers", "key", "checkout"}
        | {"is_rehearsed", "vault", "rotation", "facts", "looked"}
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the table as `report`, what stands against it as `problems`, a line each, and where the answer lies as `path`."""
        super().run(tmp, task_vars)
        options, variables = self._task.args, task_vars or {}
        promotion, items = load_promotion(), load_readiness()
        environment, folder = options["environment"], Path(options["bundle"])
        try:
            bundle = evidence_files.subject(folder, options["signers"])
            inventory = digest(Path(options["inventory"]))
            sights = {
                **self._sights(variables, inventory),
                "source": readiness_facts.source_sight(Path(options["checkout"]), bundle.release_id, bundle.git_commit),
            }
            facts = readiness_facts.bundle_facts(folder, options["signers"], sights)
        except UntrustedError as error:
            raise AnsibleActionFail(f"signature: {folder}: {error}") from error
        except OSError as error:
            raise AnsibleActionFail(f"release_bundle: {error.filename}: {error.strerror}") from error
        kept = evidence_files.read_all(
            Path(options["directory"]),
            bundle.release_id,
            places(promotion, items, environment),
            options["signers"],
            options["approvers"],
        )
        now = datetime.now(UTC)
        path = Judge(promotion, bundle, now, kept)
        shown = ReadinessJudge(items, PROBES, path, facts, environment).judged()
        answer = Readiness(environment, inventory, bundle, operator(), now, shown)
        problems = [
            f"{name}: {item.colour} ({item.detail}); {item.remedy}"
            for name, item in shown.items()
            if item.colour != "green"
        ]
        return {"changed": False, "report": text(shown), "problems": problems, "path": self._keep(answer)}

    def _sights(self, variables: Mapping[str, Any], inventory: str) -> dict[str, Sight]:
        """Turn what tasks came to into what was seen."""
        options = self._task.args
        looked = options["looked"]
        hosts = readiness_facts.hosts_sight(variables["groups"], variables["hostvars"], options["facts"])
        live = readiness_facts.command_sight(looked["live"], "release live")
        # Who has nothing has no word of what lives there either.
        stands_on = (hosts,) if is_bare(hosts) else (hosts, live)
        return {
            "hosts": hosts,
            "live": live,
            "topics": readiness_facts.command_sight(looked["live"], "topics diff"),
            "configuration": readiness_facts.judged_sight(
                {name: looked[name] for name in ("schema", "settings")}, {"inventory_sha256": inventory}
            ),
            "secrets": self._secrets(variables),
            "job-types": readiness_facts.standing_on(
                readiness_facts.command_sight(looked["job-types"], "bpmn check"), *stands_on
            ),
            "plan": readiness_facts.standing_on(
                readiness_facts.command_sight(looked["plan"], "release plan"), *stands_on
            ),
        }

    def _secrets(self, variables: Mapping[str, Any]) -> Sight:
        """Hold the vault to what the inventory takes from it, by name, and look for a rotation that was left off."""
        options = self._task.args
        names = wanted(variables)
        problems = [missing(Path(options["vault"]).resolve(), names, variables)] if names else []
        if options["rotation"]:
            problems.append(f"the rotation of {options['rotation']} was begun and is not ended")
        return Sight({"names": names}, tuple(filter(None, problems)))

    def _keep(self, answer: Readiness) -> str:
        """Sign the answer and leave it among the evidence, green or not; what a rehearsal shows is none of the environment."""
        options = self._task.args
        if self._task.check_mode or boolean(options["is_rehearsed"]):
            return ""
        key = Path(options["key"])
        place: Place = (answer.environment, READINESS)
        try:
            ensure_key(key)
            return str(evidence_files.write(Path(options["directory"]), answer.bundle.release_id, place, answer, key))
        except OSError as error:
            raise AnsibleActionFail(f"cpq_evidence_dir: {error.filename}: {error.strerror}") from error
        except RefusedError as error:
            raise AnsibleActionFail(f"release_signing_key: {error}") from error


def places(promotion: Promotion, items: Mapping[str, ReadinessItem], environment: str) -> Iterator[Place]:
    """Return where every document lies that an item asks for."""
    for stage, kinds in {(stage, kinds) for item in items.values() for stage, kinds in item.evidence.items()}:
        for kind in kinds:
            if promotion.kinds[kind].document == "tests":
                yield from (("", suite_name(suite)) for suite in promotion.stages[stage].tests)
            else:
                yield stage, APPROVAL if kind == APPROVAL else RELEASE
    yield from ((environment, attestation_name(name)) for name, item in items.items() if item.attested)


def text(items: Mapping[str, ShownItem]) -> str:
    """Return a table of what there is, a line for each item."""
    lines = [COLUMNS]
    for name, item in items.items():
        at, until = (moment.strftime("%Y-%m-%d %H:%M") if moment else "-" for moment in (item.at, item.until))
        lines.append((name, item.colour, at, until, item.evidence_sha256[:12] or "-", item.detail or "-"))
    return "".join(f"{line}\n" for line in aligned(lines))
