"""What keeps a bundle from being used: each way in which it can be other than what somebody trusted signed.

The same code looks on the control machine (a whole bundle) and on hosts (what was sent); neither writes anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from artifact_build.archive import write_tar
from artifact_build.signature import NAMESPACE, ensure_key, public_key_of, sign

from roles.app_release.module_utils import bundle_verification as verification
from tests.support.bundles import (
    MANIFEST,
    SIGNATURE,
    copied,
    identity,
    members_of,
    read_tar,
    seal,
    sign_document,
    write_bundle,
)

UNITS = ("api", "relay")
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signer") / "key"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Path:
    bundle = tmp_path_factory.mktemp("sound") / "bundle"
    write_bundle(bundle, UNITS, key)
    return bundle


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    """One of a test's own."""
    return copied(sound, tmp_path / "bundle")


@pytest.fixture
def signers(key: Path) -> list[str]:
    return [public_key_of(key).read_text().strip()]


def refusal(bundle: Path, signers: list[str]) -> str:
    """What is said of a bundle that must be refused; looking at it changes nothing."""
    before = {path: path.lstat().st_mtime_ns for path in bundle.rglob("*")}
    with pytest.raises(verification.UntrustedError) as refused:
        verification.verified_bundle(bundle, signers)
    assert {path: path.lstat().st_mtime_ns for path in bundle.rglob("*")} == before
    return str(refused.value)


def test_a_sound_bundle_is_taken(bundle: Path, signers: list[str]) -> None:
    manifest = verification.verified_bundle(bundle, signers)

    assert (manifest["release_id"], sorted(manifest["units"])) == ("cpq-oms-2031.01.05-001", sorted(UNITS))


def test_one_of_several_signers_is_enough(bundle: Path, signers: list[str], tmp_path: Path) -> None:
    ensure_key(tmp_path / "other")

    assert verification.verified_bundle(bundle, [public_key_of(tmp_path / "other").read_text().strip(), *signers])


@pytest.mark.parametrize("name", ["uv", "cpq-oms-api.tar", "contracts/openapi.yml"])
def test_a_changed_byte_is_found_in_each_kind_of_file(bundle: Path, signers: list[str], name: str) -> None:
    path = bundle / name
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    listed, found = (hashlib.sha256(part).hexdigest() for part in (content, path.read_bytes()))
    assert refusal(bundle, signers) == f"{name}: expected SHA-256 {listed}, found {found}"


def test_every_byte_of_the_manifest_and_its_signature_counts(bundle: Path, signers: list[str]) -> None:
    for name in (MANIFEST, SIGNATURE):
        content = (bundle / name).read_bytes()
        for place in range(60, len(content), len(content) // 9):
            # The line ends of the signature's armour, and what follows it, are not what is signed.
            if name == SIGNATURE and (content[place : place + 1].isspace() or place > len(content) - 30):
                continue
            (bundle / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert SIGNATURE in refusal(bundle, signers), f"{name} at {place}"
        (bundle / name).write_bytes(content)


def add(name: str) -> Spoil:
    def planted(bundle: Path) -> None:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text("foreign")

    return planted


def truncate(name: str) -> Spoil:
    return lambda bundle: os.truncate(bundle / name, (bundle / name).stat().st_size // 2)


def link(name: str) -> Spoil:
    """The same bytes, but from where somebody else may change them."""

    def planted(bundle: Path) -> None:
        (bundle / name).rename(bundle.parent / "elsewhere")
        (bundle / name).symlink_to(bundle.parent / "elsewhere")

    return planted


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (add("extra.sql"), "extra.sql is not listed in manifest.json: take it away"),
        (add("migrations/9999_expand_all.sql"), "migrations/9999_expand_all.sql is not listed in manifest.json"),
        (add(f"contracts/{MANIFEST}"), f"contracts/{MANIFEST} is not listed in manifest.json"),
        (lambda bundle: (bundle / "cpq-oms-api.tar").unlink(), "cpq-oms-api.tar is missing; manifest.json lists it"),
        (lambda bundle: (bundle / SIGNATURE).unlink(), "manifest.json.sig is missing: the bundle is not signed"),
        (truncate("cpq-oms-relay.tar"), "cpq-oms-relay.tar: expected 10240 bytes, found 5120"),
        (truncate(SIGNATURE), "manifest.json.sig is no signature of this manifest.json"),
        (link("contracts/openapi.yml"), "contracts/openapi.yml: expected a file, found a link or another thing"),
    ],
)
def test_a_bundle_with_other_files_is_refused(bundle: Path, signers: list[str], spoil: Spoil, said: str) -> None:
    spoil(bundle)

    assert said in refusal(bundle, signers)


def test_another_signer_is_refused_by_the_names_of_those_who_are_trusted(
    bundle: Path, signers: list[str], tmp_path: Path
) -> None:
    seal(bundle, tmp_path / "foreign")

    said = refusal(bundle, signers)

    assert said.startswith(
        f"{SIGNATURE}: expected a signature by one of {signers[0].split()[2]}; found that of the key"
    )
    assert "SHA256:" in said


def test_a_signature_of_the_same_key_for_something_else_is_refused(bundle: Path, signers: list[str], key: Path) -> None:
    (bundle / SIGNATURE).write_bytes(sign((bundle / MANIFEST).read_bytes(), key, "git"))

    assert "is no signature of this manifest.json" in refusal(bundle, signers)


def test_builder_and_verification_mean_the_same_signature() -> None:
    assert verification.NAMESPACE == NAMESPACE


@pytest.mark.parametrize(
    ("signers", "said"),
    [
        ([], "nobody is trusted to sign"),
        (
            ["ssh-rsa AAAA somebody"],
            "signers: expected ssh-ed25519, its public key and a name in one line, found 'ssh-rsa",
        ),
        ([f"ssh-ed25519 {'A' * 68} one\nssh-ed25519 {'A' * 68} two"], "in one line, found"),
    ],
)
def test_signers_that_are_none_are_refused(bundle: Path, signers: list[str], said: str) -> None:
    assert said in refusal(bundle, signers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": {"uv": {"size": 13}}}, "files: uv: its SHA-256 is missing; expected 64 hexadecimal digits"),
        ({"files": {"uv": {"sha256": "a" * 64}}}, "files: uv: its size is missing; expected a number of bytes"),
        ({"files": {"../uv": identity(b"")}}, "files: ../uv: expected a path within the bundle"),
        ({"files": {"/bin/uv": identity(b"")}}, "files: /bin/uv: expected a path within the bundle"),
        ({"release_id": "latest"}, "release_id: expected one like cpq-oms-2026.11.22-001, found 'latest'"),
        ({"build_id": ""}, "build_id: expected text, found ''"),
        ({"git_commit": None}, "git_commit: expected text, found None"),
        ({"python": {"version": "3.13"}}, "python: abi is missing; expected text"),
        ({"units": {"api": {"file": "uv"}}}, "units: api: artifact is missing; expected text"),
        ({"installer": "pip"}, "installer: expected one of files, found 'pip'"),
    ],
)
def test_a_signed_manifest_of_another_form_is_refused(
    bundle: Path, signers: list[str], key: Path, change: Mapping[str, Any], said: str
) -> None:
    document = json.loads((bundle / MANIFEST).read_text())
    sign_document(bundle, {**document, **change}, key)

    assert f"{MANIFEST}: {said}" in refusal(bundle, signers).splitlines()


def without_hash(members: dict[str, bytes | Path]) -> dict[str, bytes | Path]:
    """An artifact one of whose requirements has no hash; its own manifest knows it so."""
    text = b"cpq-oms-api==1.0.0+c1\n"
    files = {**json.loads(bytes(members[MANIFEST]))["files"], "requirements.txt": identity(text)}
    return {**members_of("api", files=files), "requirements.txt": text}


@pytest.mark.parametrize(
    ("altered", "said"),
    [
        (
            lambda members: {**members, "wheels/cpq_oms_api-1-py3-none-any.whl": b"the wheel of api!"},
            "wheels/cpq_oms_api-1-py3-none-any.whl: expected 16 bytes with SHA-256",
        ),
        (
            lambda members: {**members, "setup.py": b""},
            "setup.py: expected nothing by its own manifest.json, found 0 bytes",
        ),
        (
            lambda members: {
                name: part for name, part in members.items() if name != "wheels/cpq_oms_api-1-py3-none-any.whl"
            },
            "found nothing",
        ),
        (without_hash, "requirements.txt: expected NAME==VERSION --hash=sha256:HASH, found cpq-oms-api==1.0.0+c1"),
        (without_hash, "wheels/cpq_oms_api-1-py3-none-any.whl: requirements.txt has no hash of it"),
        (lambda _: members_of("api", python="3.12"), "python: expected 3.13, as the bundle's says; found 3.12"),
        (lambda _: members_of("api", unit="relay"), "unit: expected api, as the bundle's says; found relay"),
        (lambda _: members_of("api", version="2"), "version: expected 1.0.0+c1, as the bundle's says; found 2"),
        (lambda members: {"requirements.txt": members["requirements.txt"]}, "is no whole artifact (KeyError"),
    ],
)
def test_a_signed_artifact_that_its_own_manifest_does_not_know_is_refused(
    bundle: Path,
    signers: list[str],
    key: Path,
    altered: Callable[[dict[str, bytes | Path]], dict[str, bytes | Path]],
    said: str,
) -> None:
    path = bundle / "cpq-oms-api.tar"
    write_tar(path, altered({**read_tar(path)}))
    seal(bundle, key)

    found = refusal(bundle, signers)

    assert said in found
    assert all(line.startswith("cpq-oms-api.tar: ") for line in found.splitlines())


@pytest.mark.parametrize(
    ("tags", "suits"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64", True),
        ("cp311-abi3-manylinux_2_28_x86_64", True),
        ("py3-none-manylinux_2_17_x86_64", True),
        ("cp312-cp312-manylinux_2_28_x86_64", False),
        ("cp313-cp313t-manylinux_2_28_x86_64", False),
        ("cp314-abi3-manylinux_2_28_x86_64", False),
        ("py2-none-any", False),
        ("py3-cp312-manylinux_2_28_x86_64", False),
        ("cp313-cp313-manylinux_2_28_aarch64", False),
        ("cp313-cp313-musllinux_1_2_x86_64", False),
        ("any", False),
    ],
)
def test_a_wheel_for_another_python_is_refused_wherever_the_bundle_is(
    bundle: Path, signers: list[str], key: Path, tags: str, *, suits: bool
) -> None:
    """The control machine has another Python than hosts: what a wheel is for is in its name."""
    content = b"a compiled wheel"
    wheel = f"wheels/numbers-1.0-{tags}.whl"
    members = members_of("api")
    lock = bytes(members["requirements.txt"]) + f"numbers==1.0 --hash=sha256:{identity(content)['sha256']}\n".encode()
    files = {
        **json.loads(bytes(members[MANIFEST]))["files"],
        wheel: identity(content),
        "requirements.txt": identity(lock),
    }
    write_tar(bundle / "cpq-oms-api.tar", {**members_of("api", files=files), wheel: content, "requirements.txt": lock})
    seal(bundle, key)

    if suits:
        assert verification.verified_bundle(bundle, signers)
    else:
        said = f"cpq-oms-api.tar: {wheel}: expected a wheel for Python 3.13 (cpython-313-x86_64-linux-gnu)"
        assert refusal(bundle, signers) == said


def test_a_signed_archive_that_was_cut_short_is_refused(bundle: Path, signers: list[str], key: Path) -> None:
    os.truncate(bundle / "cpq-oms-api.tar", 700)
    seal(bundle, key)

    assert "cpq-oms-api.tar: is no whole artifact (ReadError" in refusal(bundle, signers)


def test_everything_that_is_wrong_is_named_at_once(bundle: Path, signers: list[str]) -> None:
    (bundle / "uv").write_text("another program of another size")
    (bundle / "cpq-oms-api.tar").unlink()
    add("notes.txt")(bundle)

    assert [line.split(maxsplit=1)[0].rstrip(":") for line in refusal(bundle, signers).splitlines()] == [
        "cpq-oms-api.tar",
        "notes.txt",
        "uv",
    ]


def test_a_host_without_ssh_keygen_is_named_with_the_remedy(
    bundle: Path, signers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert "ssh-keygen is missing; install openssh-client" in refusal(bundle, signers)


def own_python() -> dict[str, dict[str, str]]:
    """A manifest for the interpreter of this test."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": {"version": version, "abi": str(sysconfig.get_config_var("SOABI"))}}


def test_a_python_is_held_to_version_and_binary_interface() -> None:
    manifest = own_python()
    assert verification.python_problem(sys.executable, manifest) == ""

    for part, other in (("version", "3.9"), ("abi", "cpython-313t-x86_64-linux-gnu")):
        wanted = {**manifest["python"], part: other}
        said = verification.python_problem(sys.executable, {"python": wanted})
        assert said.startswith(
            f"python: {sys.executable}: expected {wanted['version']} ({wanted['abi']}), for which the"
        )
        assert said.endswith(f"found {manifest['python']['version']} ({manifest['python']['abi']})")


def test_a_python_that_is_not_there_is_named() -> None:
    said = verification.python_problem("/nowhere/python3", own_python())

    assert said.startswith("python: /nowhere/python3 cannot be run: No such file or directory; expected Python 3.")


def test_the_same_manifest_has_the_same_signature_by_the_same_key(key: Path) -> None:
    assert sign(b"content", key) == sign(b"content", key)
    assert sign(b"content", key) != sign(b"content.", key)


def test_a_signing_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key = tmp_path / "signer/key"
    ensure_key(key)
    private, public = key.read_bytes(), public_key_of(key).read_text()
    public_key_of(key).unlink()

    ensure_key(key)

    assert (key.read_bytes(), key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (private, 0o600, 0o700)
    # What follows from the private key belongs to it, whatever was interrupted.
    assert public_key_of(key).read_text().split() == public.split()
    assert public_key_of(key).stat().st_mode & 0o777 == 0o644
