"""Holds a bundle to its signed manifest: the same code on the control machine and, before anything is unpacked, on hosts.

Needs nothing but Python's own library and ssh-keygen, which every host that is reached by ssh has. Everything here only looks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, Any

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
# What the signature must be for; roles/artifact_build/files/artifact_build/signature.py signs it.
NAMESPACE = "cpq-oms-bundle"
REMEDY = "build it with make bundle"

_PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}(?: [^\r\n]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+==\S+ --hash=sha256:([0-9a-f]{64})")
_WHEEL = re.compile(r"wheels/[^/]+-([^-/]+)-([^-/]+)-([^-/]+)\.whl")
_RELEASE_ID = re.compile(r"cpq-oms-\d{4}\.\d\d\.\d\d-\d{3,}(?:-d[0-9a-f]{8})?")
# What a host's Python is asked; the second line says implementation, version, flags of the binary interface and machine.
_QUESTION = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2]); print(sysconfig.get_config_var('SOABI'))"


class UntrustedError(Exception):
    """The bundle is not to be used; each line of the message names a file, what was expected and what was found."""


def verified_bundle(folder: Path, signers: Sequence[str]) -> dict[str, Any]:
    """Return the manifest of a bundle of which every byte was looked at.

    Args:
        folder: the bundle.
        signers: public keys of those who may sign, each `ssh-ed25519 KEY NAME`.

    Raises:
        UntrustedError: it is not signed by one of them, a file differs from the manifest, is missing or is not listed,
            or an artifact is not what its own manifest says.
        OSError: it has no manifest, or cannot be read.
    """
    manifest = verified_manifest(*sealed(folder), signers)
    problems = file_problems(folder, [*manifest["files"]], manifest)
    if not problems:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            problems = [
                problem
                for found in pool.map(lambda unit: artifact_problems(folder, unit, manifest), sorted(manifest["units"]))
                for problem in found
            ]
    if problems:
        raise UntrustedError("\n".join(problems))
    return manifest


def sealed(folder: Path) -> tuple[bytes, bytes]:
    """Return the manifest of a bundle and its signature, as they are.

    Raises:
        UntrustedError: there is no signature.
        OSError: there is no manifest.
    """
    content = (folder / MANIFEST).read_bytes()
    try:
        return content, (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise UntrustedError(f"{SIGNATURE} is missing: the bundle is not signed; {REMEDY}") from None


def verified_manifest(content: bytes, signature: bytes, signers: Sequence[str]) -> dict[str, Any]:
    """Return what a manifest says, once its signature and its form are found to be sound.

    Raises:
        UntrustedError: one of them is not.
    """
    hold_to_signers(content, signature, signers)
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise UntrustedError(f"{MANIFEST} is no JSON: {error}") from None
    if problems := list(_form_problems(manifest)):
        raise UntrustedError("\n".join(f"{MANIFEST}: {problem}" for problem in problems))
    result: dict[str, Any] = manifest
    return result


def file_problems(folder: Path, names: Collection[str], manifest: Mapping[str, Any]) -> list[str]:
    """Hold the files of a folder to the manifest: those of `names` must be there as it lists them, and no others."""
    found = {
        str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    listed = {name: manifest["files"][name] for name in names}
    problems = [f"{name} is missing; {MANIFEST} lists it" for name in sorted(set(listed) - set(found))]
    foreign = sorted(set(found) - set(listed) - {MANIFEST, SIGNATURE})
    problems += [f"{name} is not listed in {MANIFEST}: take it away" for name in foreign]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        same = sorted(set(listed) & set(found))
        differing = pool.map(lambda name: _content_problem(name, found[name], listed[name]), same)
        problems += [problem for problem in differing if problem]
    return problems


def artifact_problems(folder: Path, unit: str, manifest: Mapping[str, Any]) -> list[str]:
    """Look into an artifact without unpacking it: hold it to its own manifest, and that to the bundle's.

    Its requirements must have a hash for each of its wheels, and a wheel for each hash; its wheels must be for the bundle's Python.
    """
    artifact = manifest["units"][unit]
    path = folder / artifact["file"]
    try:
        with tarfile.open(path, "r:") as tar:
            problems = list(_member_problems(tar, unit, artifact, manifest["python"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, tarfile.TarError) as error:
        problems = [f"is no whole artifact ({type(error).__name__}: {error})"]
    return [f"{artifact['file']}: {problem}" for problem in problems]


def python_problem(interpreter: str, manifest: Mapping[str, Any]) -> str:
    """Say why an interpreter of this host cannot run what the bundle holds, or nothing."""
    wanted = manifest["python"]
    ask = [interpreter, "-I", "-c", _QUESTION]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"python: {interpreter} cannot be run: {error.strerror}; expected Python {wanted['version']}"
    version, _, abi = done.stdout.strip().partition("\n")
    if (version, abi) == (wanted["version"], wanted["abi"]):
        return ""
    found = f"{version} ({abi})" if version else f"none: {done.stderr.strip()}"
    return f"python: {interpreter}: expected {wanted['version']} ({wanted['abi']}), for which the bundle was built; found {found}"


def hold_to_signers(
    content: bytes, signature: bytes, signers: Sequence[str], *, namespace: str = NAMESPACE, name: str = MANIFEST
) -> None:
    """Refuse content that is not signed, for what `namespace` names, by one of those whose public keys are given.

    Args:
        content: what was signed, to the byte.
        signature: the signature, in the format of OpenSSH.
        signers: public keys of those who may sign, each `ssh-ed25519 KEY NAME`.
        namespace: what the signature must be for.
        name: what people call the content; its signature is called the same with `.sig`.

    Raises:
        UntrustedError: it is not; the message names what was expected and what was found.
    """
    signed_by = f"{name}.sig"
    if not signers:
        raise UntrustedError(f"{signed_by}: nobody is trusted to sign; name public keys, or {REMEDY}, which makes one")
    for key in signers:
        if not _PUBLIC_KEY.fullmatch(key):
            raise UntrustedError(f"signers: expected ssh-ed25519, its public key and a name in one line, found {key!r}")
    with tempfile.TemporaryDirectory(prefix="cpq-oms-signature-") as folder:
        signed, allowed = Path(folder, "signature"), Path(folder, "allowed")
        signed.write_bytes(signature)
        allowed.write_text("".join(f"signer {key}\n" for key in signers), encoding="utf-8")
        common = ["-n", namespace, "-s", str(signed)]
        if _ssh_keygen(["-Y", "verify", *common, "-I", "signer", "-f", str(allowed)], content).returncode == 0:
            return
        whole = _ssh_keygen(["-Y", "check-novalidate", *common], content)
    if whole.returncode != 0:
        raise UntrustedError(f"{signed_by} is no signature of this {name}: one of them was changed, or cut short")
    signer = re.search(r"SHA256:\S+", whole.stdout.decode(errors="replace"))
    trusted = ", ".join(key.partition(" ")[2].partition(" ")[2] or key for key in signers)
    raise UntrustedError(
        f"{signed_by}: expected a signature by one of {trusted}; found that of the key {signer[0] if signer else '?'}"
    )


def _ssh_keygen(arguments: Sequence[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=content, capture_output=True, check=False)
    except FileNotFoundError:
        raise UntrustedError("signatures cannot be judged: ssh-keygen is missing; install openssh-client") from None


def _form_problems(manifest: Any) -> Iterator[str]:
    if not isinstance(manifest, dict):
        yield "expected an object"
        return
    parts = {"git_commit": str, "build_id": str, "installer": str, "python": dict, "units": dict, "files": dict}
    wrong = [name for name, kind in parts.items() if not isinstance(manifest.get(name), kind) or not manifest[name]]
    for name in wrong:
        kind = "text" if parts[name] is str else "an object with entries"
        yield f"{name}: expected {kind}, found {manifest.get(name)!r}"
    if not _RELEASE_ID.fullmatch(str(manifest.get("release_id"))):
        yield f"release_id: expected one like cpq-oms-2026.11.22-001, found {manifest.get('release_id')!r}"
    if wrong:
        return
    yield from _missing("python", manifest["python"], ("version", "abi"))
    yield from _listing_problems(manifest["files"])
    for unit, about in manifest["units"].items():
        yield from _missing(f"units: {unit}", about, ("artifact", "file", "version"))
    named = {
        f"units: {unit}": about.get("file") for unit, about in manifest["units"].items() if isinstance(about, dict)
    }
    for place, name in {**named, "installer": manifest["installer"]}.items():
        if name not in manifest["files"]:
            yield f"{place}: expected one of files, found {name!r}"


def _missing(place: str, about: Any, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not isinstance(about, dict) or not isinstance(about.get(name), str):
            yield f"{place}: {name} is missing; expected text"


def _listing_problems(files: Mapping[str, Any]) -> Iterator[str]:
    for name, about in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name:
            yield f"files: {name}: expected a path within the bundle"
        if not isinstance(about, dict) or not _SHA256.fullmatch(str(about.get("sha256"))):
            yield f"files: {name}: its SHA-256 is missing; expected 64 hexadecimal digits"
        elif not isinstance(about.get("size"), int):
            yield f"files: {name}: its size is missing; expected a number of bytes"


def _content_problem(name: str, path: Path, listed: Mapping[str, Any]) -> str:
    if path.is_symlink() or not path.is_file():
        return f"{name}: expected a file, found a link or another thing"
    size = path.stat().st_size
    if size != listed["size"]:
        return f"{name}: expected {listed['size']} bytes, found {size}"
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return "" if sha256 == listed["sha256"] else f"{name}: expected SHA-256 {listed['sha256']}, found {sha256}"


def _member_problems(
    tar: tarfile.TarFile, unit: str, artifact: Mapping[str, Any], python: Mapping[str, str]
) -> Iterator[str]:
    found: dict[str, dict[str, Any]] = {}
    texts: dict[str, bytes] = {}
    for member in tar:
        stream = tar.extractfile(member) if member.isreg() else None
        if stream is None or member.name in found:
            yield f"{member.name}: expected one file of that name"
            return
        if member.name in {MANIFEST, "requirements.txt"}:
            texts[member.name] = stream.read()
            stream.seek(0)
        found[member.name] = {"sha256": _sha256_of(stream), "size": member.size}
    own = json.loads(texts[MANIFEST])
    del found[MANIFEST]
    for name in sorted({*found, *own["files"]}):
        if found.get(name) != own["files"].get(name):
            yield f"{name}: expected {_shown(own['files'].get(name))} by its own {MANIFEST}, found {_shown(found.get(name))}"
    said = {"artifact": artifact["artifact"], "unit": unit, "version": artifact["version"], "python": python["version"]}
    for key, value in said.items():
        if own.get(key) != value:
            yield f"its own {MANIFEST}: {key}: expected {value}, as the bundle's says; found {own.get(key)}"
    wheels = {about["sha256"]: name for name, about in found.items() if name.startswith("wheels/")}
    for name in sorted(wheels.values()):
        if not _suits(name, python):
            yield f"{name}: expected a wheel for Python {python['version']} ({python['abi']})"
    yield from _lock_problems(texts["requirements.txt"].decode(), wheels)


def _lock_problems(requirements: str, wheels: Mapping[str, str]) -> Iterator[str]:
    hashes = set()
    for line in requirements.splitlines():
        locked = _REQUIREMENT.fullmatch(line)
        if locked is None:
            yield f"requirements.txt: expected NAME==VERSION --hash=sha256:HASH, found {line}"
        else:
            hashes.add(locked[1])
    yield from (f"{wheels[sha]}: requirements.txt has no hash of it" for sha in sorted(set(wheels) - hashes))
    yield from (f"requirements.txt: no wheel has the SHA-256 {sha}" for sha in sorted(hashes - set(wheels)))


def _suits(wheel: str, python: Mapping[str, str]) -> bool:
    """Tell by the tags in its name whether a wheel is for an interpreter: compiled for it, by the stable interface, or not compiled."""
    tags = _WHEEL.fullmatch(wheel)
    if tags is None:
        return False
    pythons, abis, platforms = (part.split(".") for part in tags.groups())
    major, minor = python["version"].split(".")
    own = f"cp{major}{minor}"
    older = [f"cp{major}{number}" for number in range(int(minor) + 1)]
    return (
        (own in pythons and own in abis)
        or ("abi3" in abis and any(tag in older for tag in pythons))
        or ("none" in abis and f"py{major}" in pythons)
    ) and ("any" in platforms or any(f"{part}-linux-gnu" in python["abi"] for part in _machines(platforms)))


def _machines(platforms: Sequence[str]) -> Iterator[str]:
    """Return the machines of platform tags, such as x86_64 of manylinux_2_28_x86_64."""
    for platform in platforms:
        if found := re.fullmatch(r"(?:many)?linux(?:1|2010|2014|_\d+_\d+)?_(\w+)", platform):
            yield found[1]


def _sha256_of(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _shown(about: Mapping[str, Any] | None) -> str:
    return f"{about.get('size')} bytes with SHA-256 {about.get('sha256')}" if about else "nothing"
