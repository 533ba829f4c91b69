"""Evidence is believed by its signature alone: what was altered, is signed by another, or for another purpose, is refused by name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from artifact_build.signature import ensure_key, public_key_of, sign

from app.application.promotion import APPROVAL, RELEASE, Approval, Kept, Place, ReleaseEvidence
from playbooks.module_utils import evidence_files
from playbooks.module_utils.evidence_files import NAMESPACE, path_of, read, subject, write
from tests.support.bundles import seal, write_bundle
from tests.support.promotion import AT, BUNDLE, documents, released

UNITS = ("api", "relay")
STAGING = ("staging", RELEASE)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("signer") / "key"
    ensure_key(made)
    return made


@pytest.fixture
def signers(key: Path) -> list[str]:
    return [public_key_of(key).read_text().strip()]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    made = tmp_path / "other-key"
    ensure_key(made)
    return made


def refusal(found: Kept | None) -> str:
    assert found is not None
    assert found.document is None
    return found.refusal


@pytest.mark.parametrize("place", documents())
def test_what_is_written_is_read_as_it_was(place: Place, tmp_path: Path, key: Path, signers: list[str]) -> None:
    document = documents(by=evidence_files.name_of(signers[0]))[place]

    path = write(tmp_path, BUNDLE.release_id, place, document, key)
    found = read(tmp_path, BUNDLE.release_id, place, signers)

    assert found is not None
    assert (found.document, found.refusal, len(found.sha256)) == (document, "", 64)
    assert path == path_of(tmp_path, BUNDLE.release_id, place)
    assert sorted(each.name for each in path.parent.iterdir() if each.is_file()) == [path.name, f"{path.name}.sig"]


def test_nothing_is_there_where_nothing_was_written(tmp_path: Path, signers: list[str]) -> None:
    assert read(tmp_path, BUNDLE.release_id, STAGING, signers) is None


@pytest.mark.parametrize("name", ["release.json", "release.json.sig"])
def test_any_altered_byte_is_refused(name: str, tmp_path: Path, key: Path, signers: list[str]) -> None:
    path = write(tmp_path, BUNDLE.release_id, STAGING, released("staging"), key).with_name(name)
    sound = path.read_bytes()
    # White space of the signature's own form says nothing.
    telling = [place for place, byte in enumerate(sound) if not (name.endswith(".sig") and byte == ord("\n"))]
    for place in [telling[0], telling[-1], *random.Random(56).sample(telling, 12)]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])

        assert refusal(read(tmp_path, BUNDLE.release_id, STAGING, signers)).startswith("release.json.sig"), place


def without_signature(path: Path) -> None:
    path.with_name("release.json.sig").unlink()


def without_zone(path: Path) -> None:
    path.write_text(path.read_text().replace("12:00:00Z", "12:00:00", 1))


def without_parts(path: Path) -> None:
    document = json.loads(path.read_text())
    del document["parts"]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("spoil", "is_signed_again", "said"),
    [
        (without_signature, False, "release.json.sig is missing: it is not signed"),
        (without_zone, True, "release.json: at: expected a time with its zone"),
        (without_parts, True, "release.json: parts: Field required"),
        (lambda path: path.write_text("{"), True, "release.json: document: Invalid JSON"),
    ],
)
def test_what_is_no_signed_document_of_its_form_is_refused(
    spoil: Callable[[Path], object], said: str, tmp_path: Path, key: Path, signers: list[str], *, is_signed_again: bool
) -> None:
    path = write(tmp_path, BUNDLE.release_id, STAGING, released("staging"), key)
    spoil(path)
    if is_signed_again:
        path.with_name("release.json.sig").write_bytes(sign(path.read_bytes(), key, NAMESPACE))

    assert refusal(read(tmp_path, BUNDLE.release_id, STAGING, signers)).startswith(said)


def test_a_foreign_signer_is_refused_and_both_are_named(tmp_path: Path, other: Path, signers: list[str]) -> None:
    write(tmp_path, BUNDLE.release_id, STAGING, released("staging"), other)

    said = refusal(read(tmp_path, BUNDLE.release_id, STAGING, signers))

    assert f"expected a signature by one of {evidence_files.name_of(signers[0])}; found that of the key SHA256:" in said


def test_a_signature_for_another_purpose_counts_for_nothing(tmp_path: Path, key: Path, signers: list[str]) -> None:
    path = write(tmp_path, BUNDLE.release_id, STAGING, released("staging"), key)
    path.with_name("release.json.sig").write_bytes(sign(path.read_bytes(), key))

    assert "is no signature of this release.json" in refusal(read(tmp_path, BUNDLE.release_id, STAGING, signers))


def test_an_approval_counts_by_the_key_of_the_name_that_it_bears(
    tmp_path: Path, key: Path, other: Path, signers: list[str]
) -> None:
    """Who may approve may not do so in another's name."""
    place = ("staging", APPROVAL)
    persons = [
        f"{' '.join(signers[0].split()[:2])} max",
        f"{' '.join(public_key_of(other).read_text().split()[:2])} erika",
    ]
    approval = Approval("staging", BUNDLE, "", "erika", "as before", AT)

    write(tmp_path, BUNDLE.release_id, place, approval, other)
    believed = read(tmp_path, BUNDLE.release_id, place, persons)
    write(tmp_path, BUNDLE.release_id, place, approval, key)

    assert believed is not None
    assert believed.document == approval
    assert "expected a signature by one of erika" in refusal(read(tmp_path, BUNDLE.release_id, place, persons))
    write(tmp_path, BUNDLE.release_id, place, replace(approval, by="otto"), key)
    said = refusal(read(tmp_path, BUNDLE.release_id, place, persons))
    assert said == "approval.json: by: otto is none of those who may approve: max, erika"


def test_a_bundle_is_the_same_release_with_the_simulator_and_without(
    tmp_path: Path, key: Path, signers: list[str]
) -> None:
    write_bundle(tmp_path / "with", (*UNITS, "simulator"), key)
    write_bundle(tmp_path / "without", UNITS, key)
    write_bundle(tmp_path / "less", UNITS[:1], key)

    one, two, three = (subject(tmp_path / name, signers) for name in ("with", "without", "less"))

    assert one.digest == two.digest
    assert one.manifest_sha256 != two.manifest_sha256
    assert three.digest != two.digest


def test_an_altered_artifact_makes_another_release(tmp_path: Path, key: Path, signers: list[str]) -> None:
    write_bundle(tmp_path / "one", UNITS, key)
    before = subject(tmp_path / "one", signers)
    (tmp_path / "one/contracts/openapi.yml").write_text("openapi: 3.1.1\n")
    seal(tmp_path / "one", key)

    assert subject(tmp_path / "one", signers).digest != before.digest


def test_what_a_stage_needs_is_kept_below_the_release(tmp_path: Path) -> None:
    assert path_of(tmp_path, "r", ("", "tests-unit")) == tmp_path / "r/tests-unit.json"
    assert path_of(tmp_path, "r", STAGING) == tmp_path / "r/staging/release.json"


def test_evidence_has_the_form_of_its_values(tmp_path: Path, key: Path) -> None:
    """The document is what people and other programs read."""
    document = json.loads(write(tmp_path, BUNDLE.release_id, STAGING, released("staging"), key).read_text())

    assert document.keys() == set(ReleaseEvidence.__slots__)
    assert document["parts"]["smoke"] == {
        "result": "passed",
        "at": "2026-11-29T12:00:00Z",
        "summary": "smoke is well",
        "shown": {"of": "staging"},
    }
