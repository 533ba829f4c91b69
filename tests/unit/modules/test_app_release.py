"""app_release: what counts as an altered installation, and where bytecode comes from. Installing is tested on a host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import load

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


def installation(root: Path, path: Path) -> Any:
    """The release as the module sees it."""
    identity = {**IDENTITY, "release_id": path.name}
    (path / "release.json").write_text(json.dumps({**identity, "artifact_sha256": "a" * 64}))
    found = app_release.Installation(path.parent.parent.name, "a" * 64, {**identity, "root": str(root), "python": ""})
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
    other = app_release.Installation("api", "b" * 64, {**IDENTITY, "root": str(root), "python": ""})

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
    newest = app_release.Installation(
        "api", "a" * 64, {**IDENTITY, "release_id": releases[5].name, "root": str(root), "python": ""}
    )

    assert newest.outdated(2) == [releases[2], releases[1]]


def test_free_space_is_that_of_the_file_system_that_will_hold_the_folder(tmp_path: Path) -> None:
    assert app_release.free_below(Path("/proc/nothing/there")) == 0
    assert app_release.free_below(tmp_path / "not/yet") > 0
