"""A release bundle: artifacts, the installer, what is judged beforehand, and a signed manifest that names every byte."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uv

from artifact_build.archive import write_tar
from artifact_build.contents import ImportGraph, own_files
from artifact_build.declaration import Declaration, read_declarations
from artifact_build.inspection import inspect
from artifact_build.own_wheel import build_wheel, version_of
from artifact_build.refusal import RefusedError
from artifact_build.sbom import Artifact, bill_of_materials
from artifact_build.signature import ensure_key, sign
from artifact_build.source import RUNBOOK, Source, file_sha256
from artifact_build.wheelhouse import PLATFORMS, PYTHON_ABI, PYTHON_VERSION, Wheelhouse

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
BILL_OF_MATERIALS = "sbom.cdx.json"
INSTALLER = "uv"
# What is laid open, by its place in the checkout; in the bundle it has that place below app/, or the one named here.
RENAMED = {RUNBOOK: "runbook.md"}
LAID_OPEN = (
    "app/contracts/topics/",
    "app/contracts/events/",
    "app/contracts/variables/",
    "app/contracts/openapi.yml",
    "app/contracts/settings.json",
    "app/contracts/job_types.yml",
    "app/contracts/processes.yml",
    "app/contracts/redis_keys.yml",
    "app/contracts/feature_flags.yml",
    "app/contracts/release_path.yml",
    "bpmn/",
    "migrations/",
    RUNBOOK,
)
KEPT_ARTIFACTS = 60
_BUDGET = re.compile(r"^-- budget: *(.+?) *$", re.MULTILINE)


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
        signing_key: Ed25519 key of OpenSSH that signs the manifest; made when it is missing, with its public key beside it.
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
        signing_key: Path,
        keep: int,
        progress: Callable[[str], None],
    ) -> None:
        self._source = source
        self._units = tuple(sorted(units))
        self._output = output
        self._artifacts = cache / "artifacts"
        self._wheelhouse = Wheelhouse(cache / "wheels")
        self._signing_key = signing_key
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
            content = (bundle / MANIFEST).read_bytes()
            manifest = json.loads(content)
            if manifest["git_commit"] != self._source.commit:
                raise RefusedError(
                    f"{bundle} was built from commit {manifest['git_commit'][:12]}, not {self._source.commit[:12]}: "
                    "two histories gave one release id; move the folder away"
                )
            wanted = (self._source.digest, list(self._units))
            return (
                (manifest["inputs_sha256"], sorted(manifest["units"])) == wanted
                and manifest["files"] == _files(bundle)
                and self._signing_key.exists()
                and (bundle / SIGNATURE).read_bytes() == sign(content, self._signing_key)
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
            installer = folder / INSTALLER
            shutil.copyfile(uv.find_uv_bin(), installer)
            installer.chmod(0o755)
            self._lay_open(root, folder)
            artifacts = [Artifact(unit["artifact"], unit["version"], folder / unit["file"]) for unit in units.values()]
            bill = bill_of_materials(
                self._source.release_id,
                self._source.committed_at,
                artifacts,
                Artifact("uv", version("uv"), installer),
            )
            (folder / BILL_OF_MATERIALS).write_bytes(bill)
            self._seal(folder, units)

    def _lay_open(self, root: Path, folder: Path) -> None:
        """Lay open what is judged, planned or read before anything of the release is installed."""
        for name in self._source.files:
            if name.startswith(LAID_OPEN):
                target = folder / RENAMED.get(name, name.removeprefix("app/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, target)

    def _seal(self, folder: Path, units: Mapping[str, Any]) -> None:
        """Write the manifest of everything that lies in the folder, and its signature."""
        files = _files(folder)
        manifest = _json(
            {
                "release_id": self._source.release_id,
                "git_commit": self._source.commit,
                # The same files have the same one, whoever built them.
                "build_id": hashlib.sha256(_json(files)).hexdigest()[:16],
                "inputs_sha256": self._source.digest,
                "python": {"version": PYTHON_VERSION, "abi": PYTHON_ABI},
                "installer": INSTALLER,
                "units": units,
                # What each may lock and how long it may run, before anybody unpacks it: a rehearsal holds it to that.
                "migration_budgets": _budgets(folder),
                "files": files,
            }
        )
        (folder / MANIFEST).write_bytes(manifest)
        ensure_key(self._signing_key)
        (folder / SIGNATURE).write_bytes(sign(manifest, self._signing_key))

    def _artifact(self, declaration: Declaration, root: Path, graph: ImportGraph, folder: Path) -> dict[str, Any]:
        files = own_files(graph, declaration, self._source.files)
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        own_version = version_of(project["version"], root, files)
        lock = root / ".config/locks" / f"{declaration.unit}.txt"
        key = hashlib.sha256(
            json.dumps([own_version, _as_json(declaration), file_sha256(lock), self._builder_digest()]).encode()
        ).hexdigest()
        cached = self._artifacts / key / f"{declaration.name}.tar"
        if not _is_intact(cached):
            self._progress(f"building {declaration.name}")
            wheels = self._wheelhouse.wheels(lock)
            dependencies = tuple(project["optional-dependencies"][declaration.unit])
            with _replacement(cached.parent) as entry, tempfile.TemporaryDirectory(prefix="own-") as own:
                wheel = build_wheel(
                    declaration, root, files, version=own_version, dependencies=dependencies, destination=Path(own)
                )
                members: dict[str, bytes | Path] = {f"wheels/{path.name}": path for path in wheels.values()}
                members[f"wheels/{wheel.name}"] = wheel
                lines = [f"{declaration.name}=={own_version} --hash=sha256:{file_sha256(wheel)}"]
                lines += [
                    f"{item.name}=={item.version} --hash=sha256:{file_sha256(path)}" for item, path in wheels.items()
                ]
                members["requirements.txt"] = "".join(f"{line}\n" for line in sorted(lines)).encode()
                members["manifest.json"] = _json(
                    {
                        "artifact": declaration.name,
                        "unit": declaration.unit,
                        "version": own_version,
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
        return {"artifact": declaration.name, "file": target.name, "version": own_version}

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


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size of each file below a bundle's folder but the manifest and its signature."""
    return {
        str(path.relative_to(folder)): {"sha256": file_sha256(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder) not in {Path(MANIFEST), Path(SIGNATURE)}
    }


def _budgets(folder: Path) -> dict[str, str]:
    """Return what migrations say of their budget, by name; those from before budgets say nothing."""
    said = {
        path.stem: _BUDGET.search(path.read_text(encoding="utf-8")) for path in (folder / "migrations").glob("*.sql")
    }
    return {name: match[1] for name, match in sorted(said.items()) if match}


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


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
