"""Third-party wheels of a lock file, from a cache whose entries are named by what they answer."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from artifact_build.refusal import RefusedError
from artifact_build.source import file_sha256

PYTHON_VERSION = "3.13"
# As sysconfig names it on Debian: implementation, version, flags of its binary interface, machine.
PYTHON_ABI = "cpython-313-x86_64-linux-gnu"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
ABIS = ("cp313", "abi3", "none")

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)$")


@dataclass(frozen=True)
class Requirement:
    """One locked distribution; `hashes` are of all its files, of which one is the wheel for our hosts."""

    name: str
    version: str
    hashes: frozenset[str]

    @property
    def key(self) -> str:
        """Name of the cache entry: the same question always has the same answer."""
        question = "\n".join((self.name, self.version, *sorted(self.hashes), PYTHON_VERSION, *PLATFORMS, *ABIS))
        return hashlib.sha256(question.encode()).hexdigest()

    def line(self) -> str:
        """Return the requirement as pip reads it."""
        return " ".join((f"{self.name}=={self.version}", *(f"--hash=sha256:{sha}" for sha in sorted(self.hashes))))


def read_lock(path: Path) -> tuple[Requirement, ...]:
    """Read a hash-locked requirements file.

    Raises:
        RefusedError: a line is no exact version with hashes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"lock file {path} cannot be read: {error.strerror}") from error
    requirements = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        exact = _REQUIREMENT.match(words[0])
        hashes = frozenset(word.removeprefix("--hash=sha256:") for word in words[1:])
        if not exact or not hashes or any("=" in sha for sha in hashes):
            raise RefusedError(f"{path}: {words[0]} is not locked to one version with SHA-256 hashes")
        requirements.append(Requirement(str(canonicalize_name(exact[1])), exact[2], hashes))
    return tuple(requirements)


class Wheelhouse:
    """The wheels for Python 3.13 on manylinux x86_64, downloaded once and verified each time they are handed out."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def wheels(self, lock: Path) -> Mapping[Requirement, Path]:
        """Return the wheel of every requirement in `lock`, downloading those that are missing or damaged.

        Raises:
            RefusedError: a requirement has no such wheel or its registry cannot be reached.
        """
        requirements = read_lock(lock)
        missing = [requirement for requirement in requirements if self._cached(requirement) is None]
        if missing:
            self._download(lock, missing)
        found = {requirement: self._cached(requirement) for requirement in requirements}
        absent = sorted(requirement.name for requirement, wheel in found.items() if wheel is None)
        if absent:
            raise RefusedError(f"{lock}: no wheel for Python {PYTHON_VERSION} on manylinux x86_64: {', '.join(absent)}")
        return {requirement: wheel for requirement, wheel in found.items() if wheel is not None}

    def _cached(self, requirement: Requirement) -> Path | None:
        entry = self._cache / requirement.key
        wheels = list(entry.glob("*.whl"))
        if len(wheels) == 1 and file_sha256(wheels[0]) in requirement.hashes:
            return wheels[0]
        if entry.exists():
            shutil.rmtree(entry)
        return None

    def _download(self, lock: Path, requirements: Iterable[Requirement]) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=self._cache) as folder:
            wanted = Path(folder) / "requirements.txt"
            wanted.write_text("".join(f"{requirement.line()}\n" for requirement in requirements), encoding="utf-8")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            command += ["--only-binary=:all:", f"--python-version={PYTHON_VERSION}", "--implementation=cp"]
            command += [f"--abi={abi}" for abi in ABIS] + [f"--platform={platform}" for platform in PLATFORMS]
            command += ["--requirement", str(wanted), "--dest", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
                raise RefusedError(f"wheels of {lock.name} cannot be downloaded, check the package index: {last[0]}")
            by_name = {parse_wheel_filename(wheel.name)[0]: wheel for wheel in sorted(Path(folder).glob("*.whl"))}
            for requirement in requirements:
                wheel = by_name.get(canonicalize_name(requirement.name))
                if wheel is not None:
                    self._keep(requirement, wheel)

    def _keep(self, requirement: Requirement, wheel: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".entry-", dir=self._cache) as folder:
            entry = Path(folder) / "entry"
            entry.mkdir()
            shutil.copyfile(wheel, entry / wheel.name)
            try:
                entry.rename(self._cache / requirement.key)
            except OSError:
                # Another build was first; its entry answers the same question.
                if not (self._cache / requirement.key).is_dir():
                    raise
