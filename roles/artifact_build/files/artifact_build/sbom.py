"""The bill of materials of a bundle, in CycloneDX 1.6: every artifact and what third parties brought into it."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from artifact_build.source import file_sha256


@dataclass(frozen=True)
class Artifact:
    """One artifact of the bundle: its distribution name, its version, and where it lies."""

    name: str
    version: str
    path: Path


def bill_of_materials(
    release_id: str, committed_at: datetime, artifacts: Sequence[Artifact], installer: Artifact
) -> bytes:
    """Return the bill as JSON, the same bytes for the same artifacts of the same commit.

    Args:
        release_id: names the bundle.
        committed_at: time of the commit, which stands where other bills have the time of the build.
        artifacts: those of the bundle; what is in them is read from their hash-locked requirements.
        installer: the program that installs them, on PyPI by its name.
    """
    uv = _component(installer.name, installer.version, file_sha256(installer.path), kind="pypi", is_application=True)
    bundle = Component(
        name="cpq-oms", version=release_id, type=ComponentType.APPLICATION, bom_ref=f"pkg:generic/cpq-oms@{release_id}"
    )
    bundle.purl = PackageURL("generic", None, "cpq-oms", release_id)
    libraries: dict[tuple[str, str, str], Component] = {}
    needed: dict[Component, list[Component]] = {}
    for artifact in artifacts:
        own = _component(
            artifact.name, artifact.version, file_sha256(artifact.path), kind="generic", is_application=True
        )
        needed[own] = []
        for name, version, sha256 in _requirements(artifact):
            library = libraries.setdefault((name, version, sha256), _component(name, version, sha256, kind="pypi"))
            needed[own].append(library)
    components = [uv, *needed, *libraries.values()]
    # Two bills have the same number when they are about the same files.
    content = "\n".join(sorted(str(item.bom_ref) + str(next(iter(item.hashes)).content) for item in components))
    bill = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"cpq-oms:{release_id}\n{content}"),
        metadata=BomMetaData(component=bundle, timestamp=committed_at),
        components=components,
    )
    bill.register_dependency(bundle, [uv, *needed])
    for component in components:
        bill.register_dependency(component, needed.get(component, []))
    return (JsonV1Dot6(bill).output_as_string(indent=1) + "\n").encode()


def _component(name: str, version: str, sha256: str, *, kind: str, is_application: bool = False) -> Component:
    purl = PackageURL(kind, None, name, version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.APPLICATION if is_application else ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
    )


def _requirements(artifact: Artifact) -> list[tuple[str, str, str]]:
    """Return name, version and SHA-256 of each wheel of third parties, as the artifact's own lock has them."""
    with tarfile.open(artifact.path) as tar:
        stream = tar.extractfile("requirements.txt")
        text = stream.read().decode() if stream else ""
    found = []
    for line in text.splitlines():
        requirement, _, sha256 = line.partition(" --hash=sha256:")
        name, _, version = requirement.partition("==")
        if name != artifact.name:
            found.append((name, version, sha256))
    return found
