"""Signs what a stage of the tests came to, as evidence of the commit that was tested."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

# The runner of the stages is no test, for which pytest does this.
sys.path.append(str(Path(__file__).resolve().parents[2] / "roles/artifact_build/files"))

from artifact_build.refusal import RefusedError
from artifact_build.signature import ensure_key
from artifact_build.source import Source, read_source

from app.application.promotion import SuiteResult, suite_name
from playbooks.module_utils import evidence_files

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ROOT / "inventories/local/group_vars/all"


class EvidenceError(Exception):
    """What was tested is no commit, or no longer the one it was, or its evidence cannot be left."""


@dataclass(frozen=True)
class CommitUnderTest:
    """The commit that is tested, and where its evidence goes."""

    source: Source
    directory: Path
    key: Path

    def keep(self, suite: str, passed: int, failures: Sequence[str]) -> None:
        """Sign and write the result of a stage, in place of an earlier one.

        Raises:
            EvidenceError: the checkout is no longer what it was when the tests began, the key cannot sign, or the folder cannot be written.
        """
        now = _clean(self.source.root)
        if (now.commit, now.release_id) != (self.source.commit, self.source.release_id):
            raise EvidenceError(
                f"commit {self.source.commit[:12]} was to be tested, and {now.commit[:12]} is checked out"
            )
        result = SuiteResult(
            suite=suite,
            release_id=self.source.release_id,
            git_commit=self.source.commit,
            at=datetime.now(UTC),
            passed=passed,
            failed=len(failures),
            failures=tuple(failures),
        )
        try:
            ensure_key(self.key)
            evidence_files.write(self.directory, self.source.release_id, ("", suite_name(suite)), result, self.key)
        except (RefusedError, OSError) as error:
            raise EvidenceError(str(error)) from error


def commit_under_test(root: Path = ROOT, directory: Path | None = None, key: Path | None = None) -> CommitUnderTest:
    """Return the commit that is checked out; evidence and key are those of this machine unless others are given.

    Raises:
        EvidenceError: there is no commit, or a file differs from the commit, so that what is tested is no release.
    """
    environment, release = (
        yaml.safe_load((VARIABLES / f"{name}.yml").read_text()) for name in ("environment", "release")
    )
    return CommitUnderTest(
        _clean(root), directory or Path(environment["cpq_evidence_dir"]), key or Path(release["release_signing_key"])
    )


def _clean(root: Path) -> Source:
    """Return the checkout, every file of which has to be as it is committed, tests and playbooks too."""
    try:
        source = read_source(root)
    except RefusedError as error:
        raise EvidenceError(str(error)) from error
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), "status", "--porcelain"]
    changed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    if changed:
        raise EvidenceError(f"{changed[0][3:]} is not as it is committed: commit it, for evidence is of a commit")
    return source
