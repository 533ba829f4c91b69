"""Our own code of one artifact as a wheel."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from artifact_build.declaration import Declaration
from artifact_build.refusal import RefusedError
from artifact_build.wheelhouse import PYTHON_VERSION

# The first time a zip can hold: what is in a wheel says when it was made, the file's times need not.
_EPOCH = "315532800"

_PROJECT = """\
[project]
name = {name}
version = {version}
description = {description}
requires-python = {requires_python}
dependencies = {dependencies}

[project.scripts]
{name} = {script}

[tool.hatch.build.targets.wheel]
packages = ["app"]
ignore-vcs = true

[tool.hatch.build.targets.wheel.shared-data]
{shared}
"""


def version_of(base: str, root: Path, files: Mapping[str, str]) -> str:
    """Return the project's version with the content as its local part: other content is another version to installers."""
    digest = hashlib.sha256()
    for installed, name in files.items():
        digest.update(f"{installed}\0".encode())
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    # The letter keeps a hash of digits from being read as a number, which would lose leading zeros.
    return f"{base}+c{digest.hexdigest()[:12]}"


def build_wheel(
    declaration: Declaration,
    root: Path,
    files: Mapping[str, str],
    *,
    version: str,
    dependencies: tuple[str, ...],
    destination: Path,
) -> Path:
    """Build the wheel of `files` (source name by installed name) and return its path.

    Raises:
        RefusedError: the build backend failed.
    """
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        for installed, name in files.items():
            staged = Path(folder) / installed
            staged.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, staged)
        shared = [name for name in files if name.startswith("share/")]
        project = _PROJECT.format(
            name=json.dumps(declaration.name),
            version=json.dumps(version),
            description=json.dumps(f"CPQ/OMS platform: {declaration.unit}"),
            requires_python=json.dumps(f">={PYTHON_VERSION}"),
            dependencies=json.dumps(dependencies),
            script=json.dumps(f"{declaration.entry_point}.__main__:main"),
            shared="\n".join(f"{json.dumps(name)} = {json.dumps(name)}" for name in shared),
        )
        (Path(folder) / "pyproject.toml").write_text(project, encoding="utf-8")
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(destination)]
        environ = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "PYTHONPATH": ""}
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RefusedError(f"{declaration.name}: hatchling failed: {(done.stderr or done.stdout).strip()}")
    return next(destination.glob("*.whl"))
