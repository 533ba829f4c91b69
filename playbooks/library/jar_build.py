#!/usr/bin/python
"""Ansible module: make one set of jars in the cache on the control machine, or prove that the set there is whole.

A set is named by the content of what it is made from (POM, lock, launcher sources), so two versions never share a folder, and
it appears under its name only when every jar has been compared with the lock: a killed run leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: jar_build
short_description: Make a locked set of jars in the cache of the control machine
description:
  - Resolves a POM's runtime dependencies with Maven, holds each jar against a lock, compiles launcher sources and packs all of it
    into one tar file for the hosts. A set that is there already is verified jar by jar.
options:
  name:
    description: Name of the set, for messages.
    type: str
    required: true
  pom:
    description: The POM whose runtime dependencies make the set.
    type: path
    required: true
  lock:
    description: File in the format of sha256sum with one line for each jar that Maven brings.
    type: path
    required: true
  sources:
    description: Folder with Java sources that are compiled against the set and added as V(<name>-launcher.jar).
    type: path
  cache:
    description: Folder that holds the sets; made when missing.
    type: path
    required: true
  verify:
    description: Hash every jar of a set that is there already. Off, only its manifest is held against the lock.
    type: bool
    default: true
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Make the broker's jars
  jar_build:
    name: kafka
    pom: roles/kafka/files/pom.xml
    lock: roles/kafka/files/jars.sha256
    cache: /var/cache/cpq-oms/jars
"""

RETURN = r"""
id:
  description: Name of the set's folder, from the content of its inputs.
  returned: always
  type: str
archive:
  description: The tar file with the jars.
  returned: always
  type: path
manifest:
  description: sha256 of each jar by name; empty in check mode when the set is not there yet.
  returned: always
  type: dict
"""

DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
JAVA_RELEASE = "17"
SHA256_DIGITS = 64
BLOCK_BYTES = 1 << 20
# The earliest time a zip file can hold: the launcher's jar must not depend on when it was made.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
MANIFEST = "manifest.json"
ARCHIVE = "jars.tar"
TEMPORARY_PREFIX = ".making-"


class JarSetError(Exception):
    """The set cannot be made or trusted; the message names the file and the remedy."""


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_lock(path: Path) -> dict[str, str]:
    """Read a lock in sha256sum's format.

    Raises:
        JarSetError: a line is not `<sha256>  <name>.jar`, or a name appears twice.
    """
    lock: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        digest, separator, name = line.partition("  ")
        if len(digest) != SHA256_DIGITS or not separator or not name.endswith(".jar") or "/" in name or name in lock:
            raise JarSetError(f"{path}:{number}: expected '<sha256>  <name>.jar' once for each jar")
        lock[name] = digest
    return lock


@dataclass(frozen=True)
class Recipe:
    """What a set is made from."""

    name: str
    pom: Path
    lock: Mapping[str, str]
    sources: Sequence[Path]
    identity: str

    @classmethod
    def read(cls, name: str, pom: Path, lock: Path, sources: str | None) -> Recipe:
        """Read the inputs and name the set by the content of all of them.

        Raises:
            JarSetError: the lock is malformed.
            OSError: an input cannot be read.
        """
        java = sorted(Path(sources).rglob("*.java")) if sources else []
        digest = hashlib.sha256()
        for path in (pom, lock, *java):
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode())
            digest.update(content)
        return cls(name, pom, read_lock(lock), java, digest.hexdigest()[:16])


def hashes_of(archive: Path) -> dict[str, str]:
    """Hash every member of a set's archive.

    Raises:
        tarfile.TarError: the archive is damaged.
    """
    hashes = {}
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            digest = hashlib.sha256()
            if stream := tar.extractfile(member):
                while block := stream.read(BLOCK_BYTES):
                    digest.update(block)
            hashes[member.name] = digest.hexdigest()
    return hashes


def compare(present: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Say in which ways a set of jars differs from what is expected of it."""
    problems = [f"{name} is missing" for name in sorted(expected.keys() - present.keys())]
    problems += [f"{name} is not in the lock" for name in sorted(present.keys() - expected.keys())]
    problems += [
        f"{name} differs from its sha256"
        for name in sorted(present.keys() & expected.keys())
        if present[name] != expected[name]
    ]
    return problems


def run(command: Sequence[str], remedy: str) -> None:
    """Run a tool.

    Raises:
        JarSetError: the tool is missing or fails; carries the end of its output and the remedy.
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError as missing:
        raise JarSetError(f"{command[0]} is not installed: {remedy}") from missing
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise JarSetError(f"{' '.join(command[:3])} … failed with {done.returncode}: {' | '.join(lines[-5:])}")


def resolve(pom: Path, folder: Path) -> None:
    """Let Maven copy the runtime dependencies into a folder; offline first, so that a filled repository needs no network."""
    goal = [
        f"{DEPENDENCY_PLUGIN}:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={folder}",
        "-Dmdep.useSubDirectoryPerType=false",
    ]
    command = ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", f"--file={pom}", *goal]
    remedy = "apt-get install maven default-jdk-headless"
    try:
        run([*command, "--offline"], remedy)
    except JarSetError:
        run(command, remedy)


def compile_launcher(name: str, sources: Sequence[Path], folder: Path, scratch: Path) -> Path:
    """Compile the launcher and pack it: same sources and compiler, same bytes."""
    classes = scratch / "classes"
    classes.mkdir()
    jars = [str(path) for path in sorted(folder.glob("*.jar"))]
    # Not -path: manifests name neighbours that Maven resolved to other versions.
    flags = ["--release", JAVA_RELEASE, "-Xlint:all,-processing,-classfile,-path", "-proc:none", "-Werror"]
    run(
        ["javac", *flags, "-d", str(classes), "-cp", ":".join(jars), *map(str, sources)],
        "apt-get install default-jdk-headless",
    )
    jar = folder / f"{name}-launcher.jar"
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(classes.rglob("*.class")):
            entry = zipfile.ZipInfo(str(path.relative_to(classes)), ZIP_EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return jar


def pack(folder: Path, archive: Path) -> None:
    """Write one plain tar file: jars are compressed already, and a host unpacks it in a moment."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.glob("*.jar")):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            entry.mode = 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)


def make(recipe: Recipe, cache: Path) -> None:
    """Make the set in a temporary folder and give it its name at the end.

    Raises:
        JarSetError: what Maven brought is not what the lock says; nothing is kept.
    """
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=cache) as temporary:
        scratch = Path(temporary)
        jars = scratch / "jars"
        entry = scratch / "set"
        entry.mkdir()
        resolve(recipe.pom, jars)
        if problems := compare({path.name: sha256(path) for path in jars.glob("*.jar")}, recipe.lock):
            raise JarSetError(f"{recipe.name}: what Maven resolved is not what the lock says: {'; '.join(problems)}")
        manifest = dict(recipe.lock)
        if recipe.sources:
            launcher = compile_launcher(recipe.name, recipe.sources, jars, scratch)
            manifest[launcher.name] = sha256(launcher)
        pack(jars, entry / ARCHIVE)
        (entry / MANIFEST).write_text(json.dumps(dict(sorted(manifest.items())), indent=1) + "\n", "utf-8")
        os.sync()
        entry.rename(cache / recipe.identity)


def ensure(recipe: Recipe, cache: Path) -> None:
    """Make the set unless it is there; of several processes at once, one makes it.

    Raises:
        JarSetError: it cannot be made; nothing is kept.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for leftover in cache.glob(f"{TEMPORARY_PREFIX}*"):
            shutil.rmtree(leftover)
        if not (cache / recipe.identity).exists():
            make(recipe, cache)


def read(recipe: Recipe, entry: Path, *, verify: bool) -> dict[str, str]:
    """Return the manifest of a set in the cache.

    Raises:
        JarSetError: the set is not what it was when it was made; says which file and how to have it made again.
    """
    try:
        manifest: dict[str, str] = json.loads((entry / MANIFEST).read_text("utf-8"))
        problems = [
            f"{jar} is not what the lock says" for jar, digest in recipe.lock.items() if manifest.get(jar) != digest
        ]
        if verify:
            problems += compare(hashes_of(entry / ARCHIVE), manifest)
    except (OSError, ValueError, AttributeError, tarfile.TarError) as broken:
        problems = [str(broken)]
    if problems:
        raise JarSetError(
            f"broken cache entry {entry} ({recipe.name}): {problems[0]}; remove it and run again: rm -r {entry}"
        )
    return manifest


def main() -> None:
    """Make or verify the set that the arguments describe."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "pom": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "sources": {"type": "path"},
            "cache": {"type": "path", "required": True},
            "verify": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    cache = Path(parameters["cache"])
    manifest: dict[str, str] = {}
    changed = False
    try:
        recipe = Recipe.read(
            str(parameters["name"]), Path(parameters["pom"]), Path(parameters["lock"]), parameters["sources"]
        )
        entry = cache / recipe.identity
        if not entry.exists():
            changed = True
            if not module.check_mode:
                ensure(recipe, cache)
        if entry.exists():
            manifest = read(recipe, entry, verify=parameters["verify"])
    except (JarSetError, OSError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(changed=changed, id=recipe.identity, archive=str(entry / ARCHIVE), manifest=manifest)


if __name__ == "__main__":
    main()
