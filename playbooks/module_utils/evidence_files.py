"""The folder of evidence on the control machine: signed documents, each believed by its signature alone.

A document and its signature lie side by side, in `<release id>/<environment>/` or, where it concerns no environment, in `<release id>/`. The
form is that of the values in app/application/promotion.py. Signatures are OpenSSH's, for a purpose of their own: no signature of a bundle can be
taken for one of evidence.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "roles/artifact_build/files"))

from artifact_build.signature import sign

from app.application.promotion import (
    APPROVAL,
    READINESS,
    REHEARSAL,
    RELEASE,
    Approval,
    Attestation,
    Document,
    Kept,
    Place,
    Readiness,
    ReleaseEvidence,
    Subject,
    SuiteResult,
    attestation_name,
)
from roles.app_release.module_utils import bundle_verification

NAMESPACE = "cpq-oms-evidence"
SIMULATOR = "simulator"
# Written from what else is in a bundle, so that the simulator is in it as well.
DERIVED = frozenset({"sbom.cdx.json"})

_FORMS: Mapping[str, TypeAdapter[Any]] = {
    RELEASE: TypeAdapter(ReleaseEvidence),
    REHEARSAL: TypeAdapter(ReleaseEvidence),
    APPROVAL: TypeAdapter(Approval),
    READINESS: TypeAdapter(Readiness),
}
_ATTESTATION: TypeAdapter[Any] = TypeAdapter(Attestation)
_SUITE: TypeAdapter[Any] = TypeAdapter(SuiteResult)


def subject(bundle: Path, signers: Sequence[str]) -> Subject:
    """Return which bundle a folder holds, by its signed manifest.

    Raises:
        UntrustedError: the manifest is not signed by one of `signers`, or malformed.
        OSError: there is none.
    """
    content, signature = bundle_verification.sealed(bundle)
    manifest = bundle_verification.verified_manifest(content, signature, signers)
    own = {unit: about for unit, about in manifest["units"].items() if unit != SIMULATOR}
    left_out = DERIVED | {about["file"] for unit, about in manifest["units"].items() if unit == SIMULATOR}
    same = {
        **{name: manifest[name] for name in ("release_id", "git_commit", "python", "installer")},
        "units": own,
        "files": {name: about for name, about in manifest["files"].items() if name not in left_out},
    }
    return Subject(
        release_id=manifest["release_id"],
        git_commit=manifest["git_commit"],
        build_id=manifest["build_id"],
        digest=hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest(),
        manifest_sha256=hashlib.sha256(content).hexdigest(),
    )


def write(directory: Path, release_id: str, place: Place, document: Document, key: Path) -> Path:
    """Sign a document and put it in its place, instead of the one before; return where it lies.

    Raises:
        RefusedError: the key cannot sign.
        OSError: the folder cannot be written.
    """
    path = path_of(directory, release_id, place)
    form = _form(place)
    content = form.dump_json(document, indent=1) + b"\n"
    signature = sign(content, key, NAMESPACE)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The signature last: what is cut short in between is refused, and the same command writes it again.
    for target, part in ((path, content), (_signature_of(path), signature)):
        with tempfile.NamedTemporaryFile(prefix=".", dir=path.parent, delete=False) as new:
            new.write(part)
        Path(new.name).chmod(0o644)
        Path(new.name).rename(target)
    return path


def read(directory: Path, release_id: str, place: Place, signers: Sequence[str]) -> Kept | None:
    """Return a document that is there, or why it is not believed; None where there is none.

    Args:
        directory: the folder of evidence.
        release_id: whose evidence.
        place: which document.
        signers: public keys of those whose word it may be, each `ssh-ed25519 KEY NAME`. Of a person's word only the key with the name
            that it bears counts.
    """
    path = path_of(directory, release_id, place)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        signature = _signature_of(path).read_bytes()
    except FileNotFoundError:
        return Kept(sha256=sha256, refusal=f"{_signature_of(path).name} is missing: it is not signed")
    try:
        trusted = _bearers(content, signers, path.name) if is_persons(place) else signers
        bundle_verification.hold_to_signers(content, signature, trusted, namespace=NAMESPACE, name=path.name)
        document = _form(place).validate_json(content)
        _hold_to_zones(document, path.name)
    except bundle_verification.UntrustedError as error:
        return Kept(sha256=sha256, refusal=str(error))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "document"
        return Kept(sha256=sha256, refusal=f"{path.name}: {field}: {first['msg']}")
    return Kept(document, sha256)


def read_all(
    directory: Path, release_id: str, places: Iterable[Place], signers: Sequence[str], approvers: Sequence[str]
) -> dict[Place, Kept]:
    """Return what is there of several documents, a person's word by `approvers` and the others by `signers`; see read()."""
    found = {place: read(directory, release_id, place, approvers if is_persons(place) else signers) for place in places}
    return {place: kept for place, kept in found.items() if kept is not None}


def path_of(directory: Path, release_id: str, place: Place) -> Path:
    """Return where a document lies."""
    environment, name = place
    return directory / release_id / environment / f"{name}.json"


def name_of(key: str) -> str:
    """Return the name in a public key `ssh-ed25519 KEY NAME`."""
    return key.partition(" ")[2].partition(" ")[2]


def is_persons(place: Place) -> bool:
    """Tell whether a document is the word of a person, and not of a machine."""
    return place[1] == APPROVAL or place[1].startswith(attestation_name(""))


def _form(place: Place) -> TypeAdapter[Any]:
    if place[1].startswith(attestation_name("")):
        return _ATTESTATION
    return _FORMS.get(place[1], _SUITE)


def _bearers(content: bytes, signers: Sequence[str], name: str) -> Sequence[str]:
    """Return the keys with the name that a person's word bears."""
    try:
        by = json.loads(content)["by"]
    except (ValueError, KeyError, TypeError):
        raise bundle_verification.UntrustedError(f"{name}: by: expected the name of who approves") from None
    bearers = [key for key in signers if name_of(key) == by]
    if not bearers:
        may = ", ".join(map(name_of, signers)) or "nobody"
        raise bundle_verification.UntrustedError(f"{name}: by: {by} is none of those who may approve: {may}")
    return bearers


def _hold_to_zones(document: Document, name: str) -> None:
    moments = [part.at for part in document.parts.values()] if isinstance(document, ReleaseEvidence) else [document.at]
    if isinstance(document, Readiness):
        moments += [moment for item in document.items.values() for moment in (item.at, item.until) if moment]
    if any(moment.tzinfo is None for moment in moments):
        raise bundle_verification.UntrustedError(f"{name}: at: expected a time with its zone")


def _signature_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")
