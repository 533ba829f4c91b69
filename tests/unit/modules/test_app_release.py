"""app_release: what is installed at all, what counts as altered, and where bytecode comes from. Installing is tested on a host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifact_build.signature import ensure_key, public_key_of

from roles.app_release.module_utils import bundle_verification
from tests.support.ansible_modules import ModuleRun, load
from tests.support.bundles import MANIFEST, SIGNATURE, sign_document, write_bundle

# On a host Ansible puts it there.
sys.modules["ansible.module_utils.bundle_verification"] = bundle_verification
app_release = load("app_release", Path(__file__).parents[3] / "roles/app_release/library")

TAG = sys.implementation.cache_tag
IDENTITY = {"release_id": "cpq-oms-2031.01.05-001", "git_commit": "c" * 40}
PACKAGES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "opt"


def make_release(root: Path, unit: str, release_id: str, sources: dict[str, str]) -> Path:
    """Lay out a release as the installer leaves it, without bytecode and manifest."""
    path = root / unit / "releases" / release_id
    for name, text in sources.items():
        source = path / PACKAGES / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
    (path / "bin").mkdir()
    (path / "bin/python").symlink_to(sys.executable)
    return path


def complete(root: Path, *releases: Path) -> None:
    """Compile and record releases, as one installation does."""
    trees = {path: app_release.tree_of(path, {}) for path in releases}
    app_release.compile_sources(root, trees, sys.executable)
    for path, tree in trees.items():
        (path / app_release.TREE).write_text(json.dumps(app_release.tree_of(path, tree)))


def installed_as(artifact_sha256: str, root: Path, release_id: str, unit: str = "api") -> Any:
    """A unit's release as a manifest names it."""
    named = {"units": {unit: {"file": "one.tar"}}, "files": {"one.tar": {"sha256": artifact_sha256}}, "installer": "uv"}
    return app_release.Installation(unit, {**IDENTITY, "release_id": release_id, **named}, root, "")


def installation(root: Path, path: Path) -> Any:
    """The release as the module sees it."""
    found = installed_as("a" * 64, root, path.name, path.parent.parent.name)
    (path / "release.json").write_text(json.dumps({**IDENTITY, "release_id": path.name, "artifact_sha256": "a" * 64}))
    assert found.path == path
    found.record(app_release.tree_of(path, {}))
    return found


def add(path: Path) -> None:
    (path / PACKAGES / "added.py").write_text("")


def relink(path: Path) -> None:
    (path / "bin/python").unlink()
    (path / "bin/python").symlink_to("/bin/sh")


def alter_one_byte(path: Path) -> None:
    source = path / PACKAGES / "sample/clock.py"
    before = source.stat()
    source.write_text("NOON = 13\n")
    # Even when size and time are put back as they were.
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


ALTERATIONS: dict[str, Callable[[Path], None]] = {
    "one byte": alter_one_byte,
    "a mode": lambda path: (path / PACKAGES / "sample/clock.py").chmod(0o666),
    "a missing file": lambda path: (path / PACKAGES / "sample/clock.py").unlink(),
    "an added file": add,
    "a link": relink,
}


def test_untouched_installation_has_no_fault(root: Path) -> None:
    release = make_release(root, "api", "cpq-oms-2031.01.05-001", {"sample/clock.py": "NOON = 12\n"})
    installed = installation(root, release)
    os.utime(release / PACKAGES / "sample/clock.py")

    assert installed.fault() == ""


@pytest.mark.parametrize("alteration", sorted(ALTERATIONS))
def test_alteration_is_found_and_named(root: Path, alteration: str) -> None:
    release = make_release(root, "api", "cpq-oms-2031.01.05-001", {"sample/clock.py": "NOON = 12\n"})
    installed = installation(root, release)

    ALTERATIONS[alteration](release)

    assert installed.fault().startswith("altered: ")


def test_installation_that_was_cut_short_is_at_fault(root: Path) -> None:
    release = make_release(root, "api", "cpq-oms-2031.01.05-001", {"sample/clock.py": "NOON = 12\n"})
    installed = installation(root, release)
    marker = release / app_release.UNFINISHED

    marker.touch()
    unfinished = installed.fault()
    marker.unlink()
    (release / app_release.TREE).write_text("{")
    damaged = installed.fault()
    shutil.rmtree(release)

    assert (unfinished, damaged, installed.fault()) == ("unfinished", "without its manifest", "absent")


def test_release_of_another_artifact_is_at_fault(root: Path) -> None:
    release = make_release(root, "api", "cpq-oms-2031.01.05-001", {"sample/clock.py": "NOON = 12\n"})
    installation(root, release)
    other = installed_as("b" * 64, root, release.name)

    assert other.fault() == "made from another artifact"


def test_bytecode_of_shared_and_known_sources_is_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_release(root, "api", "1", {"sample/same.py": "A = 1\n", "sample/changed.py": "B = 1\n"})
    complete(root, old)
    compiled: list[str] = []
    run = subprocess.run

    def remember(command: list[str], **options: Any) -> Any:
        if "compileall" in command:
            compiled.extend(Path(line).name for line in options["input"].splitlines())
        return run(command, **options)

    monkeypatch.setattr(app_release.subprocess, "run", remember)
    new = [
        make_release(
            root, unit, "2", {"sample/same.py": "A = 1\n", "sample/changed.py": "B = 2\n", "sample/new.py": "C = 1\n"}
        )
        for unit in ("api", "worker")
    ]
    complete(root, *new)

    assert sorted(compiled) == ["changed.py", "new.py"]
    for release in new:
        names = {path.name for path in (release / PACKAGES / "sample/__pycache__").iterdir()}
        assert names == {f"{stem}.{TAG}.pyc" for stem in ("changed", "new", "same")}
        code = f"import sys; sys.path.insert(0, {str(release / PACKAGES)!r}); import sample.changed as c; print(c.B, c.__cached__)"
        said = run([sys.executable, "-v", "-c", code], capture_output=True, text=True, check=True)
        assert said.stdout.startswith("2 ")
        assert f"code object from {str(release / PACKAGES / 'sample/__pycache__')!r}"[:-1] in said.stderr


def test_altered_bytecode_is_no_source_of_bytecode(root: Path) -> None:
    old = make_release(root, "api", "1", {"sample/same.py": "A = 1\n"})
    complete(root, old)
    (old / PACKAGES / f"sample/__pycache__/same.{TAG}.pyc").write_bytes(b"altered")

    assert app_release.compiled_before(root, TAG) == {}


def test_old_releases_go_and_the_current_one_stays(root: Path) -> None:
    releases = [make_release(root, "api", f"cpq-oms-2031.01.0{day}-001", {"a.py": ""}) for day in range(1, 7)]
    for age, path in enumerate(releases):
        os.utime(path, (age, age))
    (root / "api/current").symlink_to(releases[0].relative_to(root / "api"))
    newest = installed_as("a" * 64, root, releases[5].name)

    assert newest.outdated(2) == [releases[2], releases[1]]


def test_free_space_is_that_of_the_file_system_that_will_hold_the_folder(tmp_path: Path) -> None:
    assert app_release.free_below(Path("/proc/nothing/there")) == 0
    assert app_release.free_below(tmp_path / "not/yet") > 0


class Host:
    """A host that is told of a bundle and sent its files, with an older release of the unit in place of what runs there."""

    def __init__(self, folder: Path, run: ModuleRun) -> None:
        self._run = run
        self.bundle = folder / "bundle"
        self.root = folder / "opt"
        self.key = folder / "signer/key"
        # The host's Python is that of this test.
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        python = {"version": version, "abi": str(sysconfig.get_config_var("SOABI"))}
        write_bundle(self.bundle, ["api", "relay"], self.key, python=python)
        (self.root / "api/releases/cpq-oms-2030.01.05-001").mkdir(parents=True)

    def call(self, **given: Any) -> dict[str, Any]:
        """Call the module with the bundle's manifest; `given` takes the place of what is given otherwise."""
        return self._run(
            {
                "root": str(self.root),
                "manifest": (self.bundle / MANIFEST).read_text(),
                "signature": (self.bundle / SIGNATURE).read_text(),
                "signers": [public_key_of(self.key).read_text().strip()],
                "units": ["api"],
                "python": sys.executable,
                "keep": 2,
                **given,
            }
        )

    def send(self) -> Path:
        """Send what is due to where the module wants it, and return that folder."""
        incoming = Path(self.call()["incoming"])
        for name in ("uv", "cpq-oms-api.tar"):
            shutil.copy(self.bundle / name, incoming / name)
        return incoming

    def has(self) -> list[str]:
        """Everything that is there."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    # It gives files to root, which a test need not be.
    monkeypatch.setattr(app_release, "take_back", lambda _: None)
    return Host(tmp_path, ModuleRun(app_release, capsys, tmp_path / "remote"))


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units whose artifacts the module went on to unpack."""
    found: list[str] = []
    monkeypatch.setattr(app_release, "install_all", lambda _, due, *__: found.extend(one.unit for one in due))
    return found


def test_a_host_unpacks_what_was_signed(host: Host, unpacked: list[str]) -> None:
    host.send()

    result = host.call(sent=True)

    assert (result.get("failed"), result["changed"], unpacked) == (None, True, ["api"])


def other_signer(host: Host) -> dict[str, Any]:
    ensure_key(host.key.with_name("other"))
    return {"signers": [public_key_of(host.key.with_name("other")).read_text().strip()]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (other_signer, "signature: manifest.json.sig: expected a signature by one of"),
        (
            lambda host: {"manifest": (host.bundle / MANIFEST).read_text().replace("b" * 16, "e" * 16)},
            "signature: manifest.json.sig is no signature of this manifest.json",
        ),
        (lambda _: {"signature": ""}, "signature: manifest.json.sig is no signature of this manifest.json"),
        (lambda _: {"signers": []}, "signature: manifest.json.sig: nobody is trusted to sign"),
        (lambda _: {"python": "/nowhere/python3"}, "python: /nowhere/python3 cannot be run"),
    ],
)
def test_a_host_refuses_before_it_is_sent_anything(
    host: Host, given: Callable[[Host], dict[str, Any]], said: str
) -> None:
    before = host.has()

    result = host.call(**given(host))

    assert result["failed"]
    assert result["msg"].startswith(said)
    assert host.has() == before


def test_a_host_refuses_artifacts_for_another_python(host: Host) -> None:
    document = json.loads((host.bundle / MANIFEST).read_text())
    sign_document(
        host.bundle, {**document, "python": {"version": "3.9", "abi": "cpython-39-x86_64-linux-gnu"}}, host.key
    )
    before = host.has()

    result = host.call()

    assert result["failed"]
    assert "expected 3.9 (cpython-39-x86_64-linux-gnu), for which the bundle was built; found 3." in result["msg"]
    assert host.has() == before


def flip(name: str) -> Callable[[Path], object]:
    def planted(incoming: Path) -> None:
        content = (incoming / name).read_bytes()
        (incoming / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return planted


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flip("cpq-oms-api.tar"), "cpq-oms-api.tar: expected SHA-256"),
        (flip("uv"), "uv: expected SHA-256"),
        (
            lambda incoming: os.truncate(incoming / "cpq-oms-api.tar", 4096),
            "cpq-oms-api.tar: expected 10240 bytes, found 4096",
        ),
        (lambda incoming: (incoming / "uv").unlink(), "uv is missing; manifest.json lists it"),
        (lambda incoming: (incoming / "more").write_text(""), "more is not listed in manifest.json: take it away"),
    ],
)
def test_a_host_unpacks_nothing_of_what_is_not_as_it_was_signed(
    host: Host, unpacked: list[str], spoil: Callable[[Path], object], said: str
) -> None:
    before = host.has()
    spoil(host.send())

    result = host.call(sent=True)

    assert result["failed"]
    assert result["msg"].startswith(said)
    assert unpacked == []
    # What it was sent is gone, and nothing else.
    assert host.has() == before
