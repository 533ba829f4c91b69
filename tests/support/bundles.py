"""Bundles for tests: small ones that are sound to the last byte, and real ones that were altered and signed again.

A test of what a release says of a bundle's content needs one that is signed; a test of the signature spoils it afterwards.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from artifact_build.archive import write_tar
from artifact_build.signature import ensure_key, sign
from artifact_build.wheelhouse import PYTHON_ABI, PYTHON_VERSION

ROOT = Path(__file__).resolve().parents[2]
# That of the machine, which inventories for tests and for one developer trust.
OWN_KEY = Path(
    yaml.safe_load((ROOT / "inventories/local/group_vars/all/release.yml").read_text())["release_signing_key"]
)
HOSTS_PYTHON = {"version": PYTHON_VERSION, "abi": PYTHON_ABI}
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"


def write_bundle(
    folder: Path, units: Iterable[str], key: Path = OWN_KEY, *, python: Mapping[str, str] = HOSTS_PYTHON
) -> None:
    """Make a bundle of the named deployables for a Python, each with one wheel that is none, and sign it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "uv").write_bytes(b"the installer")
    (folder / "contracts").mkdir()
    (folder / "contracts/openapi.yml").write_text("openapi: 3.1.0\n")
    named = {}
    for unit in units:
        named[unit] = {"artifact": f"cpq-oms-{unit}", "file": f"cpq-oms-{unit}.tar", "version": "1.0.0+c1"}
        write_tar(folder / f"cpq-oms-{unit}.tar", members_of(unit, python=python["version"]))
    document = {
        "release_id": "cpq-oms-2031.01.05-001",
        "git_commit": "c" * 40,
        "build_id": "b" * 16,
        "python": python,
        "installer": "uv",
        "units": named,
    }
    (folder / MANIFEST).write_text(json.dumps(document))
    seal(folder, key)


def members_of(unit: str, /, **changes: Any) -> dict[str, bytes | Path]:
    """What the artifact of a unit holds, its own manifest with the named parts altered."""
    wheel = f"the wheel of {unit}".encode()
    members: dict[str, bytes | Path] = {
        f"wheels/cpq_oms_{unit}-1-py3-none-any.whl": wheel,
        "requirements.txt": f"cpq-oms-{unit}==1.0.0+c1 --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n".encode(),
    }
    files = {name: identity(content) for name, content in members.items() if isinstance(content, bytes)}
    own = {"artifact": f"cpq-oms-{unit}", "unit": unit, "version": "1.0.0+c1", "python": PYTHON_VERSION, "files": files}
    return {**members, MANIFEST: json.dumps({**own, **changes}).encode()}


def identity(content: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def seal(bundle: Path, key: Path = OWN_KEY) -> None:
    """Let the manifest list what lies there now, and sign it: the bundle that somebody trusted made of these files."""
    document = json.loads((bundle / MANIFEST).read_text())
    document["files"] = {
        str(path.relative_to(bundle)): identity(path.read_bytes())
        for path in sorted(bundle.rglob("*"))
        if path.is_file() and path.name not in {MANIFEST, SIGNATURE}
    }
    sign_document(bundle, document, key)


def sign_document(bundle: Path, document: Mapping[str, Any], key: Path = OWN_KEY) -> None:
    """Write and sign a manifest as it is given."""
    content = json.dumps(document, indent=1).encode()
    ensure_key(key)
    for name, part in ((MANIFEST, content), (SIGNATURE, sign(content, key))):
        # The file may be a link to another bundle's.
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).write_bytes(part)


def reissued(bundle: Path, folder: Path, number: int = 1) -> str:
    """Make a bundle of the same content that was made later, files shared with the former; return its release id.

    Args:
        bundle: the one that it is a copy of.
        folder: where it is to be, which must not be there.
        number: which of the next commits of that day it is of.
    """
    shutil.copytree(bundle, folder, copy_function=os.link)
    manifest = folder / MANIFEST
    document = json.loads(manifest.read_text())
    matched = re.match(r"(cpq-oms-[0-9.]+-)([0-9]+)", document["release_id"])
    assert matched is not None
    document["release_id"] = f"{matched[1]}{int(matched[2]) + number:0{len(matched[2])}}"
    # The file is the former bundle's own.
    manifest.unlink()
    manifest.write_text(json.dumps(document))
    seal(folder)
    release_id: str = document["release_id"]
    return release_id


def read_tar(path: Path) -> dict[str, bytes]:
    """The members of an artifact."""
    with tarfile.open(path) as tar:
        return {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}


def copied(bundle: Path, folder: Path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(bundle, folder)
