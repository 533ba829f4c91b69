"""Ansible module: bring the installed releases of one host to what a bundle says, all units in one task.

A release is a virtual environment in a folder of its own, made offline from the artifact's hash-locked wheels. Beside
it lies a manifest of every file's hash, so an installation that was cut short, altered or added to is found and made anew.
No unit is started and `current` is not touched here: an installed release has no effect until it is activated.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bundle_verification import (
    UntrustedError,
    artifact_problems,
    file_problems,
    python_problem,
    verified_manifest,
)

DOCUMENTATION = r"""
module: app_release
short_description: Install releases from a bundle
description:
  - Its action plugin reads the bundle on the control machine and sends only the artifacts that the host needs.
  - The host holds the manifest to its signature, its own Python to the manifest, and what it was sent to both, before it unpacks.
options:
  root: {description: Folder of all units on the host., type: path, required: true}
  manifest: {description: The bundle's manifest as it lies there., type: str, required: true}
  signature: {description: The signature of the manifest., type: str, required: true}
  signers: {description: "Public keys of those who may sign, each C(ssh-ed25519 KEY NAME).", type: list, elements: str, required: true}
  units: {description: Deployables to install., type: list, elements: str, required: true}
  python: {description: The host's Python that the environments use., type: path, required: true}
  keep: {description: Releases of a unit to keep besides the installed and the current one., type: int, required: true}
  sent:
    description: Whether what is due lies in the host's folder for it; the module only looks, and makes that folder, until it does.
    type: bool
    default: false
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

TREE = "tree.json"
UNFINISHED = ".unfinished"
SHOWN_PATHS = 5
# Both have fixed names, so that what a killed run left is cleared by the next.
MEMORY = Path("/run")
SCRATCH = "cpq-oms-app-release"
INCOMING = ".incoming"
UNPACKED_FACTOR = 6


class RefusedError(Exception):
    """The release cannot be installed; the message names the unit and the reason."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp_of(status: os.stat_result) -> list[int]:
    """Return what tells that a file was written to: the kernel sets the change time, nobody can set it back."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def tree_of(root: Path, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return mode, owner, stamp and content hash of everything below `root` except the manifest itself.

    A file whose stamp is the recorded one was not written to since, so its recorded hash is taken; others are read.
    """
    return dict(_entries(root, root, recorded))


def _entries(root: Path, folder: Path, recorded: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    prefix = "" if folder == root else f"{folder.relative_to(root)}/"
    with os.scandir(folder) as scan:
        found = list(scan)
    for entry in found:
        name = prefix + entry.name
        if name in {TREE, UNFINISHED}:
            continue
        status = entry.stat(follow_symlinks=False)
        about: dict[str, Any] = {"mode": status.st_mode, "owner": [status.st_uid, status.st_gid]}
        if entry.is_symlink():
            about["content"] = str(Path(entry.path).readlink())
        elif entry.is_dir(follow_symlinks=False):
            yield from _entries(root, Path(entry.path), recorded)
        elif entry.is_file(follow_symlinks=False):
            about["stamp"] = stamp_of(status)
            known = recorded.get(name, {})
            unread = known.get("stamp") == about["stamp"]
            about["content"] = known["content"] if unread else sha256_of(Path(entry.path))
        yield name, about


def differences(actual: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """Return the names that are missing, added or other than recorded; a new stamp alone is no difference."""

    def judged(about: Mapping[str, Any] | None) -> Any:
        return about and (about["mode"], about["owner"], about.get("content"))

    if actual == recorded:
        return []
    names = sorted({*actual, *recorded})
    return [name for name in names if judged(actual.get(name)) != judged(recorded.get(name))]


def bytecode_name(source: str, tag: str) -> str:
    """Return where the interpreter with cache tag `tag` looks for the bytecode of a source."""
    path = PurePosixPath(source)
    return str(path.with_name("__pycache__") / f"{path.stem}.{tag}.pyc")


def _sources(tree: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each Python source of a release with what identifies it in any release: its place and content."""
    for name, about in tree.items():
        if name.startswith("lib/") and name.endswith(".py") and "stamp" in about:
            yield name, (name, about["content"])


def compiled_before(root: Path, tag: str) -> dict[tuple[str, str], Path]:
    """Return the bytecode of every source of the complete releases below `root`, those altered since left out."""
    found = {}
    for manifest in root.glob(f"*/releases/*/{TREE}"):
        release = manifest.parent
        if (release / UNFINISHED).exists():
            continue
        try:
            tree = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for name, identity in _sources(tree):
            compiled = bytecode_name(name, tag)
            path = release / compiled
            if compiled in tree and path.is_file() and stamp_of(path.stat()) == tree[compiled]["stamp"]:
                found[identity] = path
    return found


def scratch_parent(payload: Path) -> Path:
    """Return where to unpack: in memory when the artifacts fit there several times over, which halves the writing to disk."""
    size = sum(path.stat().st_size for path in payload.iterdir())
    return MEMORY if shutil.disk_usage(MEMORY).free > UNPACKED_FACTOR * size else payload


def compile_sources(root: Path, trees: Mapping[Path, Mapping[str, Any]], python: str) -> None:
    """Give every Python source of the releases its bytecode, sources that several of them share once.

    Compiling is most of an installation's time, and most sources are the last release's. Bytecode is checked against
    the source's hash at import, not against its time, so copies are valid; what is no Python for this interpreter is
    left out.
    """
    question = [python, "-c", "import sys; print(sys.implementation.cache_tag)"]
    tag = subprocess.run(question, capture_output=True, text=True, check=True).stdout.strip()
    twins: dict[tuple[str, str], list[Path]] = {}
    for release, tree in trees.items():
        for name, identity in _sources(tree):
            twins.setdefault(identity, []).append(release / name)
    donors = compiled_before(root, tag)
    new = [sources[0] for identity, sources in twins.items() if identity not in donors]
    command = [python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "checked-hash", "-i", "-"]
    if new:
        listed = "".join(f"{source}\n" for source in new)
        subprocess.run(command, input=listed, capture_output=True, text=True, check=False)

    def spread(identity: tuple[str, str]) -> None:
        sources = twins[identity]
        donor = donors.get(identity) or Path(bytecode_name(str(sources[0]), tag))
        for compiled in (Path(bytecode_name(str(source), tag)) for source in sources):
            if compiled != donor and donor.exists():
                compiled.parent.mkdir(exist_ok=True)
                shutil.copyfile(donor, compiled)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(spread, twins))


class Installation:
    """One unit's release on this host."""

    def __init__(self, unit: str, manifest: Mapping[str, Any], root: Path, python: str) -> None:
        self.unit = unit
        self.file = str(manifest["units"][unit]["file"])
        self._identity = {
            "release_id": manifest["release_id"],
            "git_commit": manifest["git_commit"],
            "artifact_sha256": manifest["files"][self.file]["sha256"],
        }
        self._installer = str(manifest["installer"])
        self._home = root / unit
        self.path = self._home / "releases" / manifest["release_id"]
        self._python = python

    def fault(self) -> str:
        """Return why the release must be installed, or nothing when it is there as it was installed."""
        if not self.path.is_dir():
            return "absent"
        if (self.path / UNFINISHED).exists():
            return "unfinished"
        try:
            identity = json.loads((self.path / "release.json").read_text(encoding="utf-8"))
            recorded = json.loads((self.path / TREE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "without its manifest"
        if identity != self._identity:
            return "made from another artifact"
        names = differences(tree_of(self.path, recorded), recorded)
        if not names:
            return ""
        more = f" and {len(names) - SHOWN_PATHS} more" if len(names) > SHOWN_PATHS else ""
        return f"altered: {', '.join(names[:SHOWN_PATHS])}{more}"

    def install(self, payload: Path, scratch: Path) -> None:
        """Unpack the release anew from the verified payload, marked as unfinished; `scratch` is shared by all of one run.

        Raises:
            RefusedError: the installer failed.
        """
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        (self.path / UNFINISHED).touch()
        with tempfile.TemporaryDirectory(dir=scratch) as unpacked:
            with tarfile.open(payload / self.file) as tar:
                tar.extractall(unpacked, filter="data")
            environ = {
                "HOME": str(scratch),
                "LANG": "C.UTF-8",
                "PATH": "/usr/bin:/bin",
                "UV_CACHE_DIR": str(scratch / "cache"),
                # Hard links would let one altered file alter every release and unit that shares it.
                "UV_LINK_MODE": "copy",
                "UV_NO_CONFIG": "1",
                "UV_OFFLINE": "1",
                "UV_PYTHON_DOWNLOADS": "never",
            }
            self._run(payload, environ, "venv", "--allow-existing", "--python", self._python, str(self.path))
            self._run(
                payload,
                environ,
                *("pip", "install", "--python", str(self.path / "bin/python"), "--no-index", "--no-deps"),
                *("--find-links", f"{unpacked}/wheels", "--require-hashes"),
                *("--requirement", f"{unpacked}/requirements.txt"),
            )
        # The installer's own lock, writable by everyone.
        (self.path / ".lock").unlink(missing_ok=True)
        (self.path / "release.json").write_text(json.dumps(self._identity) + "\n", encoding="utf-8")

    def record(self, unpacked: Mapping[str, Any]) -> None:
        """Write the manifest of what is installed now; `unpacked` is what was there before compiling."""
        (self.path / TREE).write_text(json.dumps(tree_of(self.path, unpacked)), encoding="utf-8")

    def finish(self) -> None:
        """Declare the release complete, once every byte of it is on disk."""
        (self.path / UNFINISHED).unlink()

    def outdated(self, keep: int) -> list[Path]:
        """Return the releases to remove: all but this one, the current one and the `keep` newest of the others."""
        current = self._home / "current"
        spared = {self.path, current.resolve() if current.is_symlink() else self.path}
        try:
            others = [path for path in (self._home / "releases").iterdir() if path not in spared]
        except FileNotFoundError:
            return []
        return sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[keep:]

    def _run(self, payload: Path, environ: Mapping[str, str], *arguments: str) -> None:
        command = [str(payload / self._installer), "--quiet", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RefusedError(f"{self.unit}: {' '.join(arguments[:2])} failed: {(done.stderr or done.stdout).strip()}")


def payload_problems(payload: Path, due: Sequence[Installation], manifest: Mapping[str, Any]) -> list[str]:
    """Return what of the files that this host was sent is not as the manifest says; nothing of them was unpacked yet."""
    files = {installation.unit: installation.file for installation in due}
    problems = file_problems(payload, [manifest["installer"], *files.values()], manifest)
    return problems or [problem for unit in files for problem in artifact_problems(payload, unit, manifest)]


def install_all(
    pool: ThreadPoolExecutor, due: Sequence[Installation], payload: Path, installer: Path, python: str
) -> None:
    """Install the releases that are due, side by side, down to the last byte on disk."""
    installer.chmod(0o700)
    scratch = emptied(scratch_parent(payload) / SCRATCH)
    list(pool.map(lambda installation: installation.install(payload, scratch), due))
    shutil.rmtree(scratch)
    trees = list(pool.map(lambda installation: tree_of(installation.path, {}), due))
    unpacked = {installation.path: tree for installation, tree in zip(due, trees, strict=True)}
    compile_sources(payload.parent, unpacked, python)
    list(pool.map(Installation.record, due, trees))
    os.sync()
    for installation in due:
        installation.finish()


def emptied(folder: Path) -> Path:
    """Make a folder that only root can read, without what another run may have left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def hand_over(folder: Path) -> None:
    """Let whoever became root here send files into the folder: transfers are made before that."""
    if user := os.environ.get("SUDO_UID"):
        os.chown(folder, int(user), -1)


def take_back(folder: Path) -> None:
    """Make what was sent root's own before anything of it is judged."""
    for path in (folder, *folder.iterdir()):
        os.chown(path, 0, 0, follow_symlinks=False)


def free_below(folder: Path) -> int:
    """Return how many bytes are free where a folder is, or would be made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, install what is due, remove what is outdated; return the module's result.

    Raises:
        UntrustedError: the manifest is not signed by a trusted key.
        RefusedError: this host's Python or what it was sent is not the manifest's.
    """
    arguments = module.params
    manifest = verified_manifest(arguments["manifest"].encode(), arguments["signature"].encode(), arguments["signers"])
    if problem := python_problem(arguments["python"], manifest):
        raise RefusedError(problem)
    root = Path(arguments["root"])
    payload = root / INCOMING
    installations = [Installation(unit, manifest, root, arguments["python"]) for unit in sorted(arguments["units"])]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        faults = dict(zip(installations, pool.map(Installation.fault, installations), strict=True))
        due = [installation for installation, fault in faults.items() if fault]
        removed = [path for installation in installations for path in installation.outdated(arguments["keep"])]
        if not module.check_mode:
            if due and not arguments["sent"]:
                hand_over(emptied(payload))
            else:
                if due:
                    take_back(payload)
                    if problems := payload_problems(payload, due, manifest):
                        shutil.rmtree(payload)
                        raise RefusedError("\n".join(problems))
                    install_all(pool, due, payload, payload / manifest["installer"], arguments["python"])
                for path in (*removed, *(path for path in (payload,) if path.exists())):
                    shutil.rmtree(path)
    release_id = manifest["release_id"]
    return {
        "changed": bool(due or removed),
        "due": [installation.unit for installation in due],
        "free": free_below(root),
        "incoming": str(payload),
        "removed": [str(path) for path in removed],
        "diff": [
            {
                "before_header": installation.unit,
                "after_header": installation.unit,
                "before": f"{release_id} {fault}\n",
                "after": f"{release_id} installed\n",
            }
            for installation, fault in faults.items()
            if fault
        ],
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "manifest": {"type": "str", "required": True},
            "signature": {"type": "str", "required": True},
            "signers": {"type": "list", "elements": "str", "required": True},
            "units": {"type": "list", "elements": "str", "required": True},
            "python": {"type": "path", "required": True},
            "keep": {"type": "int", "required": True},
            "sent": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        result = run(module)
    except (RefusedError, OSError, tarfile.TarError) as error:
        module.fail_json(msg=str(error))
    except UntrustedError as error:
        module.fail_json(msg=f"signature: {error}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
