"""A release bundle: one artifact per deployable, the installer, and a manifest that names every byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uv

from artifact_build.archive import write_tar
from artifact_build.contents import ImportGraph, own_files
from artifact_build.declaration import Declaration, read_declarations
from artifact_build.inspection import inspect
from artifact_build.own_wheel import build_wheel, version_of
from artifact_build.refusal import RefusedError
from artifact_build.source import Source, file_sha256
from artifact_build.wheelhouse import PLATFORMS, PYTHON_VERSION, Wheelhouse

MANIFEST = "manifest.json"
LAID_OPEN = (
    "app/contracts/topics/",
    "app/contracts/events/",
    "app/contracts/job_types.yml",
    "app/contracts/processes.yml",
    "bpmn/",
)
KEPT_ARTIFACTS = 60


@dataclass(frozen=True)
class Built:
    """What a build answers: where the bundle lies and whether anything had to be made."""

    bundle: str
    release_id: str
    changed: bool


class Builder:
    """Builds bundles of one checkout into one output folder.

    Args:
        source: the checkout.
        units: deployables the bundle holds; a production bundle leaves the simulator out.
        output: folder of the bundles, one per release id.
        cache: folder of wheels and artifacts, each entry named by a hash of what it was made from.
        keep: bundles to keep besides the new one.
        progress: told each step that takes time.
    """

    def __init__(
        self,
        *,
        source: Source,
        units: Sequence[str],
        output: Path,
        cache: Path,
        keep: int,
        progress: Callable[[str], None],
    ) -> None:
        self._source = source
        self._units = tuple(sorted(units))
        self._output = output
        self._artifacts = cache / "artifacts"
        self._wheelhouse = Wheelhouse(cache / "wheels")
        self._keep = keep
        self._progress = progress

    def build(self, *, dry_run: bool) -> Built:
        """Make the bundle unless it is there already; a dry run only answers.

        Raises:
            RefusedError: the sources break a rule, a wheel cannot be had, or another commit already has this release id.
        """
        bundle = self._output / self._source.release_id
        changed = not self._is_complete(bundle)
        if changed and not dry_run:
            self._make(bundle)
            self._prune()
        return Built(bundle=str(bundle), release_id=self._source.release_id, changed=changed)

    def _is_complete(self, bundle: Path) -> bool:
        try:
            manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
            if manifest["git_commit"] != self._source.commit:
                raise RefusedError(
                    f"{bundle} was built from commit {manifest['git_commit'][:12]}, not {self._source.commit[:12]}: "
                    "two histories gave one release id; move the folder away"
                )
            wanted = (self._source.digest, list(self._units))
            return (manifest["inputs_sha256"], sorted(manifest["units"])) == wanted and all(
                file_sha256(bundle / entry["file"]) == entry["sha256"]
                for entry in (manifest["uv"], *manifest["units"].values(), *manifest["contracts"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _make(self, bundle: Path) -> None:
        self._output.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".source-", dir=self._output) as exported,
            _replacement(bundle) as folder,
        ):
            root = Path(exported)
            self._source.export(root)
            declarations = read_declarations(root)
            graph = ImportGraph(root)
            units = {}
            for unit in self._units:
                if unit not in declarations:
                    raise RefusedError(f"unit {unit} is not declared in app/contracts/artifacts.yml")
                units[unit] = self._artifact(declarations[unit], root, graph, folder)
            installer = folder / "uv"
            shutil.copyfile(uv.find_uv_bin(), installer)
            installer.chmod(0o755)
            _write_json(
                folder / MANIFEST,
                {
                    "release_id": self._source.release_id,
                    "git_commit": self._source.commit,
                    "inputs_sha256": self._source.digest,
                    "python": PYTHON_VERSION,
                    "uv": {"file": "uv", **_identity(installer)},
                    "units": units,
                    "contracts": self._contracts(root, folder),
                },
            )

    def _contracts(self, root: Path, folder: Path) -> list[dict[str, Any]]:
        """Lay topics, event schemas, job types and processes open: they are judged before anything of them is installed."""
        entries = []
        for name in sorted(name for name in self._source.files if name.startswith(LAID_OPEN)):
            target = folder / name.removeprefix("app/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target)
            entries.append({"file": str(target.relative_to(folder)), **_identity(target)})
        return entries

    def _artifact(self, declaration: Declaration, root: Path, graph: ImportGraph, folder: Path) -> dict[str, Any]:
        files = own_files(graph, declaration, self._source.files)
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        version = version_of(project["version"], root, files)
        lock = root / ".config/locks" / f"{declaration.unit}.txt"
        key = hashlib.sha256(
            json.dumps([version, _as_json(declaration), file_sha256(lock), self._builder_digest()]).encode()
        ).hexdigest()
        cached = self._artifacts / key / f"{declaration.name}.tar"
        if not _is_intact(cached):
            self._progress(f"building {declaration.name}")
            wheels = self._wheelhouse.wheels(lock)
            dependencies = tuple(project["optional-dependencies"][declaration.unit])
            with _replacement(cached.parent) as entry, tempfile.TemporaryDirectory(prefix="own-") as own:
                wheel = build_wheel(
                    declaration, root, files, version=version, dependencies=dependencies, destination=Path(own)
                )
                members: dict[str, bytes | Path] = {f"wheels/{path.name}": path for path in wheels.values()}
                members[f"wheels/{wheel.name}"] = wheel
                lines = [f"{declaration.name}=={version} --hash=sha256:{file_sha256(wheel)}"]
                lines += [
                    f"{item.name}=={item.version} --hash=sha256:{file_sha256(path)}" for item, path in wheels.items()
                ]
                members["requirements.txt"] = "".join(f"{line}\n" for line in sorted(lines)).encode()
                members["manifest.json"] = _json(
                    {
                        "artifact": declaration.name,
                        "unit": declaration.unit,
                        "version": version,
                        "python": PYTHON_VERSION,
                        "platforms": PLATFORMS,
                        "files": {
                            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
                            for name, content in (
                                (name, member if isinstance(member, bytes) else member.read_bytes())
                                for name, member in sorted(members.items())
                            )
                        },
                    }
                )
                write_tar(entry / cached.name, members)
                problems = inspect(entry / cached.name, declaration)
                if problems:
                    raise RefusedError("; ".join(problems))
                (entry / "sha256").write_text(file_sha256(entry / cached.name), encoding="ascii")
        os.utime(cached.parent)
        target = folder / cached.name
        _link_or_copy(cached, target)
        return {"artifact": declaration.name, "file": target.name, "version": version, **_identity(target)}

    def _builder_digest(self) -> str:
        """Return a hash of the code that builds, since it decides the bytes as much as what it is given."""
        return hashlib.sha256(
            "".join(
                sha for name, sha in self._source.files.items() if name.startswith("roles/artifact_build/")
            ).encode()
        ).hexdigest()

    def _prune(self) -> None:
        bundles = [path.parent for path in self._output.glob(f"cpq-oms-*/{MANIFEST}")]
        for bundle in _oldest(bundles, self._keep + 1):
            if bundle.name != self._source.release_id:
                shutil.rmtree(bundle)
        for entry in _oldest(list(self._artifacts.glob("[0-9a-f]*")), KEPT_ARTIFACTS):
            shutil.rmtree(entry)


def _as_json(declaration: Declaration) -> dict[str, Any]:
    """Return the declaration as JSON can hold it, sets in order."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(declaration).items()
    }


def _is_intact(artifact: Path) -> bool:
    try:
        return file_sha256(artifact) == (artifact.parent / "sha256").read_text(encoding="ascii")
    except OSError:
        return False


def _identity(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "size": path.stat().st_size}


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_bytes(_json(document))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _oldest(folders: Sequence[Path], keep: int) -> Sequence[Path]:
    newest_first = sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return newest_first[keep:]


@contextmanager
def _replacement(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when all went well, so that nobody sees a half."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        new.rename(folder)
