"""The build's input: which files of the checkout count, which commit they are, and the release id that follows."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from artifact_build.refusal import RefusedError

RUNBOOK = "docs/release.md"
INPUTS = ("app", "bpmn", "migrations", RUNBOOK, "pyproject.toml", ".config/locks", "roles/artifact_build/files")


@dataclass(frozen=True)
class Source:
    """A checkout, its input files by content, and their identity."""

    root: Path
    files: Mapping[str, str]
    commit: str
    committed_at: datetime
    release_id: str
    digest: str

    @property
    def dirty(self) -> bool:
        """Whether the files differ from the commit; the release id says so too."""
        return "-d" in self.release_id

    def export(self, destination: Path) -> None:
        """Copy the input files, and nothing that lies beside them, to a folder of their own."""
        for name in self.files:
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / name, target)


def read_source(root: Path) -> Source:
    """Read the checkout at `root`.

    The release id is the commit's UTC date and its ordinal among that day's commits in its own history, so the same
    commit has the same id everywhere. Input files that differ from the commit add a hash of their content.

    Raises:
        RefusedError: `root` is no git checkout, has no commit, or is shallow, which would change the ordinal.
    """
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise RefusedError(f"{root} is a shallow clone, so release ids would be wrong: run git fetch --unshallow")
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    days = _git(root, "log", "--format=%cd", "--date=format-local:%Y.%m.%d", "HEAD").splitlines()
    release_id = f"cpq-oms-{days[0]}-{days.count(days[0]):03d}"
    names = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *INPUTS).split("\0")
    files = {name: file_sha256(root / name) for name in sorted(set(names)) if name and (root / name).is_file()}
    digest = hashlib.sha256("".join(f"{sha} {name}\n" for name, sha in files.items()).encode()).hexdigest()
    if _git(root, "status", "--porcelain", "--untracked-files=all", "--", *INPUTS):
        release_id += f"-d{digest[:8]}"
    committed_at = datetime.fromtimestamp(int(_git(root, "log", "-1", "--format=%ct", "HEAD")), tz=UTC)
    return Source(
        root=root, files=files, commit=commit, committed_at=committed_at, release_id=release_id, digest=digest
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _git(root: Path, *arguments: str) -> str:
    # The user's configuration, locale and time zone must not change what git prints.
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "LC_"))},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    command: Sequence[str] = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RefusedError(f"git cannot read {root}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()
