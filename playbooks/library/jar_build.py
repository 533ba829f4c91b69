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
  distribution:
    description:
      - A F(.tar.gz) whose one folder has F(bin/), F(lib/) with jars, and F(config/application.yaml), as the engine's vendor lays it out.
        Given, its jars make the set, in place of those that the POM brings.
    type: path
  distribution_sha256:
    description: What the distribution's sha256 must be.
    type: str
  beside_distribution:
    description: Jars of the lock that are needed beside a distribution's, unless it has one of that name.
    type: list
    elements: str
    default: []
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
class Distribution:
    """An archive whose jars make a set, its sha256, and the locked jars that it needs beside its own."""

    archive: Path
    sha256: str
    beside: Sequence[str]


@dataclass(frozen=True)
class Recipe:
    """What a set is made from. Of a set with a distribution only some jars of the lock are part."""

    name: str
    pom: Path
    lock: Mapping[str, str]
    sources: Sequence[Path]
    distribution: Distribution | None
    identity: str

    @classmethod
    def read(
        cls, name: str, pom: Path, lock: Path, sources: str | None, distribution: Distribution | None = None
    ) -> Recipe:
        """Read the inputs and name the set by the content of all of them.

        Raises:
            JarSetError: the lock is malformed, or does not have a jar that a distribution needs.
            OSError: an input cannot be read.
        """
        java = sorted(Path(sources).rglob("*.java")) if sources else []
        digest = hashlib.sha256()
        for path in (pom, lock, *java):
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode())
            digest.update(content)
        locked = read_lock(lock)
        if distribution:
            if unknown := sorted(set(distribution.beside) - locked.keys()):
                raise JarSetError(f"{lock}: lacks {', '.join(unknown)}, needed beside a distribution")
            digest.update(f"{distribution.sha256}\0{' '.join(distribution.beside)}".encode())
        return cls(name, pom, locked, java, distribution, digest.hexdigest()[:16])


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


def unpack_distribution(distribution: Distribution, folder: Path) -> None:
    """Put the jars of a distribution into a folder.

    Raises:
        JarSetError: it is not the archive that was meant, or not laid out as one.
    """
    archive = distribution.archive
    if not archive.is_file():
        raise JarSetError(f"{archive}: there is no such file")
    if (found := sha256(archive)) != distribution.sha256:
        raise JarSetError(f"{archive}: its sha256 is {found}, expected {distribution.sha256}")
    folder.mkdir()
    layout = set()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                parts = Path(member.name).parts
                # A folder need not be a member of its own.
                layout |= {(parts[0], "/".join(parts[1:depth])) for depth in range(1, len(parts) + 1)}
                # Names alone are taken from the archive, and files alone: it cannot write anywhere else.
                if member.isfile() and parts[1:-1] == ("lib",) and parts[-1].endswith(".jar"):
                    with (folder / parts[-1]).open("wb") as jar:
                        shutil.copyfileobj(tar.extractfile(member), jar)  # type: ignore[arg-type]  # a file has a stream
    except (tarfile.TarError, EOFError, OSError, IndexError) as broken:
        raise JarSetError(f"{archive}: is no whole .tar.gz: {broken}") from broken
    roots = sorted({root for root, _ in layout})
    missing = [
        place for place in ("bin", "lib", "config/application.yaml") if (roots[0] if roots else "", place) not in layout
    ]
    if len(roots) != 1 or missing or not any(folder.iterdir()):
        raise JarSetError(
            f"{archive}: expected one folder with bin/, lib/*.jar and config/application.yaml; "
            f"found {', '.join(roots[:3]) or 'nothing'} without {', '.join(missing) or 'jars'}"
        )


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
        if recipe.distribution:
            jars = _with_distribution(recipe.distribution, jars, scratch)
        manifest = {path.name: sha256(path) for path in jars.glob("*.jar")}
        if recipe.sources:
            launcher = compile_launcher(recipe.name, recipe.sources, jars, scratch)
            manifest[launcher.name] = sha256(launcher)
        pack(jars, entry / ARCHIVE)
        (entry / MANIFEST).write_text(json.dumps(dict(sorted(manifest.items())), indent=1) + "\n", "utf-8")
        os.sync()
        entry.rename(cache / recipe.identity)


def _with_distribution(distribution: Distribution, locked: Path, scratch: Path) -> Path:
    """Return a folder with a distribution's jars and those that it needs beside them."""
    jars = scratch / "distribution"
    unpack_distribution(distribution, jars)
    for name in distribution.beside:
        if not (jars / name).exists():
            shutil.copyfile(locked / name, jars / name)
    return jars


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
        # A distribution is held to its own sha256, which names the set, and may have a jar of the lock's name.
        locked = {} if recipe.distribution else recipe.lock
        problems = [f"{jar} is not what the lock says" for jar, digest in locked.items() if manifest.get(jar) != digest]
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
            "distribution": {"type": "path"},
            "distribution_sha256": {"type": "str"},
            "beside_distribution": {"type": "list", "elements": "str", "default": []},
            "cache": {"type": "path", "required": True},
            "verify": {"type": "bool", "default": True},
        },
        required_together=[("distribution", "distribution_sha256")],
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    cache = Path(parameters["cache"])
    manifest: dict[str, str] = {}
    changed = False
    try:
        distribution = (
            Distribution(
                Path(parameters["distribution"]), parameters["distribution_sha256"], parameters["beside_distribution"]
            )
            if parameters["distribution"]
            else None
        )
        recipe = Recipe.read(
            str(parameters["name"]),
            Path(parameters["pom"]),
            Path(parameters["lock"]),
            parameters["sources"],
            distribution,
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
