"""Ansible module: bring a set of files, directories and links to their declared state in one task.

One task per file costs half a second each over ssh; a role's whole configuration costs the same as one file here.
Every new content is staged and validated before the first file is replaced, so a set that fails validation changes nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.secret_record import record

DOCUMENTATION = r"""
module: file_set
short_description: Bring a set of files, directories and links to their declared state
description:
  - Writes are atomic, drift of content, mode, owner and group is repaired, and files are handled in the order given.
  - Every content is validated before the first path changes.
options:
  files:
    description: >-
      Each entry has C(path) (absolute) and C(state), which is V(file) unless given: V(file) with C(content), V(directory),
      V(link) with C(target), or V(absent). C(mode) is a quoted octal string (V("0644") for files, V("0755") for directories unless
      given), C(owner) and C(group) are names, V(root) unless given. C(validate) is a command with V(%s) in place of the
      staged file, which keeps its base name. C(secret=true) keeps the content out of diffs, results and logs.
    type: list
    elements: dict
    required: true
  unit:
    description: >-
      The systemd unit that reads the files when it starts. Then the result has C(outdated), so that a restart is not lost when
      a run is killed between the files and it.
    type: str
  reads:
    description: Further files that the unit reads when it starts and that others write, such as certificates; they count for C(outdated).
    type: list
    elements: path
    default: []
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Write the configuration
  file_set:
    files:
      - {path: /etc/example, state: directory, mode: "0750"}
      - path: /etc/example/example.conf
        content: "{{ lookup('ansible.builtin.template', 'etc/example/example.conf.j2') }}"
        validate: example --check-config %s
      - {path: /etc/example/token, content: "{{ example_token }}", mode: "0600", secret: true}
  register: __example_files
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed, or would be in check mode, in the order given.
  returned: always
  type: list
outdated:
  description: Whether the unit runs since before the newest of the files, as they were before this run.
  returned: always
  type: bool
"""

KEYS_OF_STATE: Mapping[str, frozenset[str]] = {
    "file": frozenset({"content", "mode", "owner", "group", "validate", "secret"}),
    "directory": frozenset({"mode", "owner", "group"}),
    "link": frozenset({"target"}),
    "absent": frozenset(),
}
REQUIRED_OF_STATE: Mapping[str, frozenset[str]] = {
    "file": frozenset({"content"}),
    "directory": frozenset(),
    "link": frozenset({"target"}),
    "absent": frozenset(),
}
OCTAL_MODE = re.compile(r"0[0-7]{3,4}")
HIDDEN = "(secret, not shown)\n"
_LEAST_DEPTH = 2


class RefusedError(Exception):
    """The declared set cannot be applied; the message names the path and the remedy."""


@dataclass(frozen=True)
class Entry:
    """One declared path."""

    path: str
    state: str
    content: bytes
    target: str
    mode: int
    owner: str
    group: str
    validate: str
    secret: bool


@dataclass
class Change:
    """What one path was and becomes; `before` and `after` are what a person may see."""

    path: str
    before: str = ""
    after: str = ""


def parse(raw: Mapping[str, Any]) -> Entry:
    """Read one declared entry.

    Raises:
        RefusedError: a key is missing, unknown or has a value that would not mean what its author thinks.
    """
    path = str(raw.get("path") or "")
    if not path.startswith("/") or os.path.normpath(path) != path or path.count("/") < _LEAST_DEPTH:
        raise RefusedError(f"path {path!r}: expected a normalised absolute path below a top-level directory")
    state = str(raw.get("state", "file"))
    if state not in KEYS_OF_STATE:
        raise RefusedError(f"{path}: state {state!r} is none of {', '.join(KEYS_OF_STATE)}")
    unknown = set(raw) - KEYS_OF_STATE[state] - {"path", "state"}
    missing = {key for key in REQUIRED_OF_STATE[state] if raw.get(key) is None}
    if unknown or missing:
        problems = [f"unknown key {key}" for key in sorted(unknown)] + [f"missing key {key}" for key in sorted(missing)]
        raise RefusedError(f"{path}: {', '.join(problems)} for state {state}")
    mode = raw.get("mode", "0755" if state == "directory" else "0644")
    if not isinstance(mode, str) or not OCTAL_MODE.fullmatch(mode):
        raise RefusedError(f'{path}: mode {mode!r} is not a quoted octal string such as "0644"')
    validate = str(raw.get("validate", ""))
    if validate and "%s" not in validate:
        raise RefusedError(f"{path}: validate has no %s in place of the file")
    secret = raw.get("secret", False)
    if not isinstance(secret, bool):
        raise RefusedError(f"{path}: secret is neither true nor false")
    return Entry(
        path=path,
        state=state,
        content=str(raw.get("content", "")).encode(),
        target=str(raw.get("target", "")),
        mode=int(mode, 8),
        owner=str(raw.get("owner", "root")),
        group=str(raw.get("group", "root")),
        validate=validate,
        secret=secret,
    )


def readable(content: bytes, secret: bool) -> str:
    """Return the content as a diff may show it."""
    if secret:
        return HIDDEN
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"(binary, {len(content)} bytes)\n"


def kind(status: os.stat_result | None) -> str:
    """Return what a path is, in the words of `state`."""
    if status is None:
        return "absent"
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return names.get(stat.S_IFMT(status.st_mode), "special file")


def owner_name(uid: int) -> str:
    """Return the user's name, or its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the group's name, or its number when it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def attributes(mode: int, owner: str, group: str) -> str:
    """Return the line of a diff that tells mode and ownership."""
    return f"# mode {mode:04o} owner {owner} group {group}\n"


class FileSet:
    """Compares the host with the declared entries and applies the differences."""

    def __init__(self, module: AnsibleModule, staging: Path) -> None:
        self._module = module
        self._staging = staging
        self._planned: set[str] = set()
        self._removed: set[str] = set()

    def plan(self, entry: Entry) -> Change | None:
        """Return the change that `entry` needs, or None; later entries see the host as earlier ones will leave it."""
        try:
            status: os.stat_result | None = os.lstat(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if any(entry.path == path or entry.path.startswith(path + "/") for path in self._removed):
            status = None
        now = kind(status)
        self._check_place(entry, now)
        change = self._difference(entry, status, now)
        if entry.state == "absent":
            self._planned.discard(entry.path)
            if change:
                self._removed.add(entry.path)
        else:
            self._planned.add(entry.path)
        return change

    def validate(self, number: int, entry: Entry) -> None:
        """Run the entry's validation command on the staged content.

        Raises:
            RefusedError: the command is missing or judges the content bad. In check mode a missing command is no fault:
                an earlier task, not yet run, may install it.
        """
        command = shlex.split(entry.validate)
        folder = self._staging / str(number)
        folder.mkdir(mode=0o700)
        staged = folder / Path(entry.path).name
        staged.touch(mode=0o600)
        staged.write_bytes(entry.content)
        if shutil.which(command[0]) is None:
            if self._module.check_mode:
                return
            raise RefusedError(f"{entry.path}: validation command {command[0]} is not installed")
        code, out, err = self._module.run_command([part.replace("%s", str(staged)) for part in command])
        if code != 0:
            raise RefusedError(f"{entry.path}: {command[0]} refused the new content: {(err or out).strip()}")

    def apply(self, entry: Entry) -> None:
        """Bring the path to its declared state."""
        path = Path(entry.path)
        if entry.state == "absent":
            self._remove(path)
        elif entry.state == "link":
            self._replace(path, lambda new: new.symlink_to(entry.target))
        elif entry.state == "directory":
            if not path.is_dir():
                path.mkdir(mode=0o700)
            self._set_attributes(path, entry)
        else:
            self._replace(path, lambda new: self._write(new, entry))
            if entry.secret:
                record("wrote", path)

    def _check_place(self, entry: Entry, now: str) -> None:
        parent = Path(entry.path).parent
        # In check mode an earlier task, not yet run, may make the directory.
        if entry.state != "absent" and not (parent.is_dir() or str(parent) in self._planned or self._module.check_mode):
            raise RefusedError(f"{entry.path}: its directory does not exist; declare {parent} before it")
        replaceable = {"file", "link", "absent"} if entry.state in {"file", "link"} else {entry.state, "absent"}
        if entry.state != "absent" and now not in replaceable:
            raise RefusedError(
                f"{entry.path}: is a {now}, declared as {entry.state}; remove it by hand or declare it absent"
            )

    def _difference(self, entry: Entry, status: os.stat_result | None, now: str) -> Change | None:
        change = Change(entry.path)
        if entry.state == "absent":
            change.before, change.after = f"{now}\n", "absent\n"
            return None if now == "absent" else change
        if entry.state == "link":
            change.before = f"link to {Path(entry.path).readlink()}\n" if now == "link" else f"{now}\n"
            change.after = f"link to {entry.target}\n"
            return None if change.before == change.after else change
        if status is None or now != entry.state:
            change.before = "" if status is None else f"{now}\n"
            change.after = attributes(entry.mode, entry.owner, entry.group)
            change.after += readable(entry.content, entry.secret) if entry.state == "file" else "directory\n"
            return change
        was = attributes(stat.S_IMODE(status.st_mode), owner_name(status.st_uid), group_name(status.st_gid))
        wanted = attributes(entry.mode, entry.owner, entry.group)
        if entry.state == "directory":
            change.before, change.after = was, wanted
            return None if was == wanted else change
        content = Path(entry.path).read_bytes()
        if was == wanted and content == entry.content:
            return None
        change.before = was + readable(content, entry.secret)
        change.after = wanted + readable(entry.content, entry.secret)
        if entry.secret and content != entry.content:
            change.after += "(content differs)\n"
        return change

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _replace(self, path: Path, make: Callable[[Path], None]) -> None:
        """Make the new object beside the path and rename it over: a reader sees the old or the new one, never a half."""
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            new = Path(folder) / path.name
            make(new)
            new.rename(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write(self, new: Path, entry: Entry) -> None:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(entry.content)
            stream.flush()
            os.fsync(stream.fileno())
        self._set_attributes(new, entry)

    def _set_attributes(self, path: Path, entry: Entry) -> None:
        try:
            uid = pwd.getpwnam(entry.owner).pw_uid
            gid = grp.getgrnam(entry.group).gr_gid
        except KeyError as error:
            raise RefusedError(f"{entry.path}: {error.args[0]}; create the user and group first") from error
        os.chown(path, uid, gid)
        path.chmod(entry.mode)


def is_outdated(module: AnsibleModule, unit: str, files: Sequence[Path]) -> bool:
    """Tell whether the unit's process was started before one of its files was written."""
    _, shown, _ = module.run_command(["systemctl", "show", "--property=MainPID", "--value", unit], check_rc=True)
    process = Path("/proc") / (shown.strip() or "0")
    if process.name == "0" or not process.exists():
        return False
    ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    # A tick of the clock is 10 ms; what was written in the same tick was there before the process.
    started_at = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK") + 0.02
    return any(path.exists() and path.stat().st_mtime > started_at for path in files)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Plan, validate, apply; return the module's result."""
    raw = module.params["files"]
    for item in raw:
        if item.get("secret") and item.get("content"):
            content = str(item["content"])
            module.no_log_values.update({content, content.strip()} - {""})
    entries = [parse(item) for item in raw]
    declared = [entry.path for entry in entries]
    twice = sorted({path for path in declared if declared.count(path) > 1})
    if twice:
        raise RefusedError(f"declared twice: {', '.join(twice)}")
    read = [Path(entry.path) for entry in entries if entry.state == "file"] + [
        Path(path) for path in module.params["reads"]
    ]
    outdated = bool(module.params["unit"]) and is_outdated(module, module.params["unit"], read)
    staging = Path(tempfile.mkdtemp(prefix="file_set.", dir=module.tmpdir))
    try:
        files = FileSet(module, staging)
        changes = [(entry, change) for entry in entries if (change := files.plan(entry))]
        for number, (entry, _) in enumerate(changes):
            if entry.validate:
                files.validate(number, entry)
        if not module.check_mode:
            for entry, _ in changes:
                files.apply(entry)
    finally:
        shutil.rmtree(staging)
    return {
        "changed": bool(changes),
        "outdated": outdated,
        "changed_paths": [change.path for _, change in changes],
        "diff": [
            {"before_header": change.path, "after_header": change.path, "before": change.before, "after": change.after}
            for _, change in changes
        ],
    }


class UnloggedModule(AnsibleModule):
    """A module whose arguments stay out of the host's journal, where Ansible would write all of them, secrets included.

    The constructor's own `no_log` is no help: the controller's setting takes its place.
    """

    def _log_invocation(self) -> None:
        pass


def main() -> None:
    """Run as an Ansible module."""
    module = UnloggedModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True},
            "unit": {"type": "str"},
            "reads": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (RefusedError, OSError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
