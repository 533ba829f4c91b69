#!/usr/bin/python
"""Ansible module: hold a service's jars on a host against their manifest, by content.

A jar that was changed, removed or added is on the class path at the next start, so no stamp file is believed: every run
hashes what is there. A set is unpacked beside its place and moved into it whole.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: jar_set
short_description: Verify, install or tidy a set of jars on a host
options:
  path:
    description: Folder that holds the sets of one service; each set is a folder of its own in it.
    type: path
    required: true
  id:
    description: Name of the set.
    type: str
    required: true
  manifest:
    description: sha256 of each jar by name.
    type: dict
    required: true
  archive:
    description: Tar file on the host with the jars. Without it nothing is installed and the result only says what differs.
    type: path
  prune:
    description: Remove the other sets; only when no running process uses them any more.
    type: bool
    default: false
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Compare the jars with their manifest
  jar_set: {path: /opt/kafka, id: ef94fa9f2da4ee51, manifest: "{{ __kafka_jars.manifest }}"}
  register: __kafka_installed
"""

RETURN = r"""
problems:
  description: In which ways the set on the host differed from the manifest before this run; empty when it is whole.
  returned: always
  type: list
superseded:
  description: Folders of other sets that are still there.
  returned: always
  type: list
"""


JAR_MODE = 0o644


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compare(folder: Path, manifest: Mapping[str, str]) -> list[str]:
    """Say in which ways a folder differs from the manifest; ownership and modes count too, since jars are code that a service runs."""
    if not folder.is_dir() or folder.is_symlink():
        return ["not installed"]
    present = {path.name: path for path in folder.iterdir()}
    problems = [f"{name} is missing" for name in sorted(manifest.keys() - present.keys())]
    problems += [f"{name} does not belong to the set" for name in sorted(present.keys() - manifest.keys())]
    for name in sorted(present.keys() & manifest.keys()):
        path = present[name]
        status = path.lstat()
        if not path.is_file() or path.is_symlink() or status.st_uid != 0 or stat.S_IMODE(status.st_mode) != JAR_MODE:
            problems.append(f"{name} is not a file of root with mode 0644")
        elif sha256(path) != manifest[name]:
            problems.append(f"{name} differs from its sha256")
    return problems


def unpack(archive: Path, folder: Path, manifest: Mapping[str, str]) -> list[str]:
    """Replace the folder by the archive's jars and return what is wrong with the archive; then the folder stays as it was."""
    incoming = folder.with_name(f".{folder.name}.incoming")
    outgoing = folder.with_name(f".{folder.name}.outgoing")
    for leftover in (incoming, outgoing):
        shutil.rmtree(leftover, ignore_errors=True)
    incoming.mkdir(parents=True, mode=0o755)
    incoming.parent.chmod(0o755)
    with tarfile.open(archive, "r:") as tar:
        tar.extractall(incoming, filter="data")
    for path in incoming.iterdir():
        path.chmod(JAR_MODE)
    if problems := compare(incoming, manifest):
        shutil.rmtree(incoming)
        return problems
    if folder.exists():
        folder.rename(outgoing)
    incoming.rename(folder)
    shutil.rmtree(outgoing, ignore_errors=True)
    return []


def main() -> None:
    """Compare, and install or prune as asked."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "manifest": {"type": "dict", "required": True},
            "archive": {"type": "path"},
            "prune": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    base = Path(parameters["path"])
    folder = base / parameters["id"]
    manifest: dict[str, str] = parameters["manifest"]
    problems = compare(folder, manifest)
    changed = False
    if problems and parameters["archive"]:
        changed = True
        if not module.check_mode:
            archive = Path(parameters["archive"])
            if damage := unpack(archive, folder, manifest):
                module.fail_json(msg=f"{archive} is not the set {parameters['id']}: {'; '.join(damage)}")
            archive.unlink()
    superseded = sorted(path for path in base.glob("*") if path.name != folder.name and path.is_dir())
    if superseded and parameters["prune"]:
        changed = True
        if not module.check_mode:
            for path in superseded:
                shutil.rmtree(path)
    removed = [f"{path} is superseded" for path in superseded] if parameters["prune"] else []
    module.exit_json(
        changed=changed,
        problems=problems,
        superseded=[str(path) for path in superseded],
        diff={"before": "".join(f"{folder}: {line}\n" for line in [*problems, *removed]), "after": ""}
        if changed
        else {},
    )


if __name__ == "__main__":
    main()
