"""Jar sets: what is built only once, what a cache or a host must not get away with."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import ModuleRun, load

JARS = {"a.jar": b"first", "b.jar": b"second"}
MANIFEST = {name: hashlib.sha256(content).hexdigest() for name, content in JARS.items()}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "pom.xml").write_text("<project/>")
    (tmp_path / "jars.sha256").write_text("".join(f"{digest}  {name}\n" for name, digest in MANIFEST.items()))
    return {
        "name": "probe",
        "pom": str(tmp_path / "pom.xml"),
        "lock": str(tmp_path / "jars.sha256"),
        "cache": str(tmp_path / "cache"),
    }


@pytest.fixture
def build(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> ModuleRun:
    """The module, with a repository of two jars in place of Maven's."""
    module = load("jar_build")

    def resolve(_: Path, folder: Path) -> None:
        folder.mkdir()
        for name, content in JARS.items():
            (folder / name).write_bytes(content)

    monkeypatch.setattr(module, "resolve", resolve)
    return ModuleRun(module, capsys, tmp_path_factory.mktemp("remote"))


@pytest.fixture
def install(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> ModuleRun:
    return ModuleRun(load("jar_set"), capsys, tmp_path_factory.mktemp("remote"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "incoming.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in JARS.items():
            (tmp_path / name).write_bytes(content)
            tar.add(tmp_path / name, name)
    return path


def test_set_is_made_once(build: ModuleRun, inputs: dict[str, Any]) -> None:
    first, second = build(inputs), build(inputs)

    assert first["changed"]
    assert not second["changed"]
    assert first["manifest"] == second["manifest"] == MANIFEST
    with tarfile.open(second["archive"]) as tar:
        assert tar.getnames() == ["a.jar", "b.jar"]


def test_archive_is_the_same_bytes_whenever_it_is_made(
    build: ModuleRun, inputs: dict[str, Any], tmp_path: Path
) -> None:
    first = Path(build(inputs)["archive"]).read_bytes()
    second = Path(build({**inputs, "cache": str(tmp_path / "other")})["archive"]).read_bytes()

    assert first == second


def test_jar_that_the_lock_does_not_know_is_refused_and_nothing_is_kept(
    build: ModuleRun, inputs: dict[str, Any], tmp_path: Path
) -> None:
    Path(inputs["lock"]).write_text(f"{MANIFEST['a.jar']}  a.jar\n{'0' * 64}  b.jar\n")

    result = build(inputs)

    assert result["failed"]
    assert "b.jar differs from its sha256" in result["msg"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_remains_of_a_killed_run_are_cleared(build: ModuleRun, inputs: dict[str, Any], tmp_path: Path) -> None:
    remains = tmp_path / "cache" / ".making-x"
    remains.mkdir(parents=True)

    assert build(inputs)["changed"]
    assert not remains.exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_broken_cache_is_named_with_its_remedy(build: ModuleRun, inputs: dict[str, Any], damage: str) -> None:
    archive = Path(build(inputs)["archive"])
    content = archive.read_bytes()
    if damage == "flip":
        archive.write_bytes(content.replace(b"second", b"sEcond"))
    elif damage == "truncate":
        archive.write_bytes(content[:700])
    elif damage == "remove":
        archive.unlink()
    else:
        archive.with_name("manifest.json").write_text("{")

    result = build(inputs)

    assert result["failed"]
    assert "\n" not in result["msg"]
    assert f"broken cache entry {archive.parent}" in result["msg"]
    assert result["msg"].endswith(f"remove it and run again: rm -r {archive.parent}")
    shutil.rmtree(archive.parent)
    assert build(inputs)["changed"]


def test_check_mode_makes_nothing(build: ModuleRun, inputs: dict[str, Any], tmp_path: Path) -> None:
    result = build(inputs, check=True)

    assert result["changed"]
    assert result["manifest"] == {}
    assert not (tmp_path / "cache").exists()


def test_missing_tool_is_named_with_the_package_that_has_it() -> None:
    module = load("jar_build")

    with pytest.raises(module.JarSetError, match="no-such-tool is not installed: apt-get install it"):
        module.run(["no-such-tool"], "apt-get install it")


def on_host(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(tmp_path / "opt"), "id": "v1", "manifest": MANIFEST, **more}


def test_fresh_host_gets_the_set_and_keeps_it(install: ModuleRun, archive: Path, tmp_path: Path) -> None:
    first = install(on_host(tmp_path, archive=str(archive)))
    second = install(on_host(tmp_path))

    assert first["problems"] == ["not installed"]
    assert first["changed"]
    assert not archive.exists()
    assert second["problems"] == []
    assert not second["changed"]


@pytest.mark.parametrize(
    ("drift", "problem"),
    [
        (lambda folder: (folder / "a.jar").write_bytes(b"other"), "a.jar differs from its sha256"),
        (lambda folder: (folder / "a.jar").unlink(), "a.jar is missing"),
        (lambda folder: (folder / "c.jar").write_bytes(b"third"), "c.jar does not belong to the set"),
        (lambda folder: (folder / "a.jar").chmod(0o666), "a.jar is not a file of root with mode 0644"),
    ],
)
def test_drift_is_named_and_repaired(
    install: ModuleRun, archive: Path, tmp_path: Path, drift: Any, problem: str
) -> None:
    kept = archive.read_bytes()
    install(on_host(tmp_path, archive=str(archive)))
    drift(tmp_path / "opt/v1")

    assert install(on_host(tmp_path))["problems"] == [problem]
    archive.write_bytes(kept)
    assert install(on_host(tmp_path, archive=str(archive)))["changed"]
    assert install(on_host(tmp_path))["problems"] == []


def test_archive_that_is_not_the_set_changes_nothing(install: ModuleRun, archive: Path, tmp_path: Path) -> None:
    kept = archive.read_bytes()
    install(on_host(tmp_path, archive=str(archive)))
    (tmp_path / "opt/v1/a.jar").unlink()
    archive.write_bytes(kept.replace(b"second", b"sEcond"))

    result = install(on_host(tmp_path, archive=str(archive)))

    assert result["failed"]
    assert "b.jar differs from its sha256" in result["msg"]
    assert (tmp_path / "opt/v1/b.jar").read_bytes() == b"second"


def test_superseded_sets_go_only_when_asked(install: ModuleRun, archive: Path, tmp_path: Path) -> None:
    old = tmp_path / "opt/v0"
    old.mkdir(parents=True)

    assert install(on_host(tmp_path, archive=str(archive)))["superseded"] == [str(old)]
    assert old.exists()
    assert install(on_host(tmp_path, prune=True))["changed"]
    assert not old.exists()


LIBRARY = {"engine-9.jar": b"the engine", "b.jar": b"a newer second"}


def packed(path: Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Pack files as a distribution, and return the parameters that name it."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return {"distribution": str(path), "distribution_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def laid_out(jars: Mapping[str, bytes] = LIBRARY) -> dict[str, bytes]:
    """Files as the vendor lays them out."""
    return {
        "engine-9/bin/broker": b"#!/bin/sh",
        "engine-9/config/application.yaml": b"zeebe: {}",
        **{f"engine-9/lib/{name}": content for name, content in jars.items()},
        "engine-9/exporters/README.txt": b"put yours here",
    }


def test_jars_of_a_distribution_make_the_set_with_those_it_lacks(
    build: ModuleRun, inputs: dict[str, Any], tmp_path: Path
) -> None:
    parameters = {**inputs, **packed(tmp_path / "engine.tar.gz", laid_out()), "beside_distribution": ["a.jar", "b.jar"]}
    made, again, other = build(parameters), build(parameters), build(inputs)

    expected = {**LIBRARY, "a.jar": JARS["a.jar"]}
    assert made["manifest"] == {name: hashlib.sha256(content).hexdigest() for name, content in expected.items()}
    assert not again["changed"]
    assert other["id"] != made["id"]
    with tarfile.open(made["archive"]) as tar:
        assert tar.getnames() == sorted(expected)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {name: content for name, content in laid_out().items() if "config" not in name},
            "without config/application.yaml",
        ),
        (laid_out({}), "without lib"),
        (laid_out({"notes.txt": b""}), "without jars"),
        ({**laid_out(), "further/README": b""}, "found engine-9, further"),
        ({}, "without bin, lib, config/application.yaml"),
    ],
    ids=["no configuration", "no library", "no jar", "two folders", "empty"],
)
def test_a_distribution_of_another_layout_is_refused_and_leaves_nothing(
    build: ModuleRun, inputs: dict[str, Any], tmp_path: Path, files: dict[str, bytes], problem: str
) -> None:
    refused = build({**inputs, **packed(tmp_path / "engine.tar.gz", files)})

    assert refused["failed"]
    assert problem in refused["msg"]
    assert refused["msg"].startswith(str(tmp_path / "engine.tar.gz"))
    assert list((tmp_path / "cache").glob("[!.]*")) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"distribution_sha256": "0" * 64}, "expected 000"),
        ({"distribution": "/nowhere/engine.tar.gz"}, "there is no such file"),
        ({"beside_distribution": ["c.jar"]}, "lacks c.jar"),
    ],
)
def test_a_distribution_that_is_not_the_one_that_was_meant_is_refused(
    build: ModuleRun, inputs: dict[str, Any], tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    refused = build({**inputs, **packed(tmp_path / "engine.tar.gz", laid_out()), **change})

    assert refused["failed"]
    assert problem in refused["msg"]


def test_a_distribution_writes_nowhere_but_into_its_set(
    build: ModuleRun, inputs: dict[str, Any], tmp_path: Path
) -> None:
    outside = {"engine-9/lib/../../../outside.jar": b"out", "engine-9/lib/deeper/within.jar": b"in"}
    made = build({**inputs, **packed(tmp_path / "engine.tar.gz", laid_out() | outside)})

    assert made["manifest"].keys() == LIBRARY.keys()
    assert list(tmp_path.rglob("outside.jar")) == []
