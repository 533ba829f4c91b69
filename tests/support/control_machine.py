"""A control machine without hosts: playbooks and action plugins as they are, with a bundle, evidence and keys of a test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from artifact_build.signature import public_key_of

from app.application.promotion import Place, Subject
from playbooks.module_utils import evidence_files

ROOT = Path(__file__).resolve().parents[2]


class Control:
    """A control machine: a bundle, a folder of evidence, and a key that bundles, evidence and approvals are signed with."""

    def __init__(self, folder: Path, bundle: Path, key: Path) -> None:
        self.folder, self.bundle, self.key = folder, bundle, key
        self.evidence = folder / "evidence"
        self.signers = [public_key_of(key).read_text().strip()]
        self.subject: Subject = evidence_files.subject(bundle, self.signers)
        self.by = evidence_files.name_of(self.signers[0])

    def write(self, place: Place, document: Any, key: Path | None = None) -> Path:
        return evidence_files.write(self.evidence, self.subject.release_id, place, document, key or self.key)

    def path(self, place: Place) -> Path:
        return evidence_files.path_of(self.evidence, self.subject.release_id, place)

    def play(self, playbook: str, environment: str, *words: str) -> tuple[int, str]:
        """Run a playbook as people do, with the inventory as it is but for whom it trusts and where evidence lies."""
        own = {
            "cpq_evidence_dir": str(self.evidence),
            "release_signers": self.signers,
            "promotion_approvers": self.signers,
            "release_bundle": str(self.bundle),
            # Whatever this machine operates: the environment's vault is missing, and no host can be reached.
            "cpq_state_dir": str(self.folder / "state"),
            "ansible_ssh_executable": "/bin/false",
        }
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                *("-i", environment, playbook, "-e", json.dumps(own), *words),
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    def ask(self, plugin: Any, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Call an action plugin without the playbook around it."""
        common = {
            "directory": str(self.evidence),
            "bundle": str(self.bundle),
            "environment": "staging",
            "inventory": str(ROOT / "inventories/staging"),
            "signers": self.signers,
        }
        action = object.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(args={**common, **options}, check_mode=check, async_val=0, action="it")
        action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
        action._templar = SimpleNamespace(template=lambda value: value)
        found: dict[str, Any] = action.run(task_vars={"cpq_state_dir": str(self.folder / "state")})
        return found
