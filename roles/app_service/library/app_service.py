"""Ansible module: bring the units of one host to their declared release, settings and state, all in one task.

Whether a unit must be restarted is read from the running process, not remembered from what this run changed: its
program, environment and credentials are compared with the declared ones. So a run that was killed between writing and
restarting is completed by the next, and a unit that runs what is declared is never touched.

New settings are tried with the new release's own check before anything changes on the host.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.secret_record import record

DOCUMENTATION = r"""
module: app_service
short_description: Activate a release and bring units to their declared settings and state
options:
  root: {description: Folder of the installed releases on the host., type: path, required: true}
  release_id: {description: Release to activate for every given unit; required without C(credentials_only)., type: str}
  unit_files: {description: Content of the systemd units by file name., type: dict, required: true}
  files: {description: Other files, content and mode by path., type: dict, default: {}}
  units: {description: Declaration of each deployable by name., type: dict, required: true}
  credentials_only:
    description: Write credentials and restart what holds others, and leave releases, unit files and settings as they are. Needs no release.
    type: bool
    default: false
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

SETTINGS = Path("/etc/cpq-oms")
UNIT_FILES = Path("/etc/systemd/system")
TARGET = "cpq-oms.target"
UNIT_KEYS = {"environment", "credentials", "instances", "health_url", "state"}
INSTANCE_KEYS = {"environment", "health_url"}
STATES = {"started", "stopped"}
STOP = "stop"
HEALTH_SECONDS = 30.0
HEALTH_PAUSE_SECONDS = 0.2
SHOWN_JOURNAL_LINES = 25
OK = 200
HIDDEN = "(secret, not shown)"

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class RefusedError(Exception):
    """The declared state cannot be reached; the message names the unit and what it said."""


@dataclass(frozen=True)
class ManagedFile:
    """A file with its declared content; everything here belongs to root."""

    path: Path
    content: str
    mode: int
    secret: bool = False

    def difference(self) -> dict[str, str] | None:
        """Return the difference as a person may see it, or None when there is none."""
        before = ""
        if self.path.is_file() and not self.path.is_symlink():
            status = self.path.stat()
            content = self.path.read_text(encoding="utf-8", errors="replace")
            if (status.st_mode & 0o7777, status.st_uid, status.st_gid, content) == (self.mode, 0, 0, self.content):
                return None
            before = f"# mode {status.st_mode & 0o7777:04o} owner {status.st_uid}:{status.st_gid}\n"
            before += f"{HIDDEN}\n" if self.secret else content
        after = f"# mode {self.mode:04o} owner 0:0\n" + (f"{HIDDEN} (written anew)\n" if self.secret else self.content)
        name = str(self.path)
        return {"before_header": name, "after_header": name, "before": before, "after": after}

    def same_content(self) -> bool:
        """Tell whether only mode or ownership can differ."""
        return self.path.is_file() and self.path.read_text(encoding="utf-8", errors="replace") == self.content

    def write(self) -> None:
        """Replace the file in one step; one that only lacks its mode or owner keeps its time, by which units are judged."""
        if self.same_content() and not self.path.is_symlink():
            os.chown(self.path, 0, 0)
            self.path.chmod(self.mode)
            return
        with tempfile.TemporaryDirectory(prefix=f".{self.path.name}.", dir=self.path.parent) as folder:
            new = Path(folder) / self.path.name
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(self.content)
                stream.flush()
                os.fsync(stream.fileno())
            new.chmod(self.mode)
            new.rename(self.path)
        if self.secret:
            record("wrote", self.path)


@dataclass(frozen=True)
class Service:
    """One process that systemd runs, as declared."""

    name: str
    unit: str
    unit_file: str
    environment: Mapping[str, str]
    environment_file: Path
    health_url: str
    started: bool


@dataclass
class Declaration:
    """Everything that is declared for this host, in the order given."""

    services: list[Service] = field(default_factory=list)
    files: list[ManagedFile] = field(default_factory=list)
    folders: dict[Path, int] = field(default_factory=dict)
    environments: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    credentials: dict[str, Mapping[str, str]] = field(default_factory=dict)
    strays: list[Path] = field(default_factory=list)


def environment_text(environment: Mapping[str, str]) -> str:
    """Return the content of an EnvironmentFile=, every value quoted as systemd reads it."""

    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "".join(f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()))


def read_environment(unit: str, raw: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the variables as text.

    Raises:
        RefusedError: a name or value cannot stand in an environment file.
    """
    environment = {str(name): str(value) for name, value in (raw or {}).items()}
    bad = [name for name, value in environment.items() if not VARIABLE.fullmatch(name) or not value.isprintable()]
    if bad:
        raise RefusedError(
            f"{unit}: environment {', '.join(sorted(bad))} is no upper-case name with a value of one line"
        )
    return environment


def read_declaration(arguments: Mapping[str, Any]) -> Declaration:
    """Turn the module's arguments into services, files and folders.

    Raises:
        RefusedError: a key is unknown, or instances are declared for a unit that has none or the other way round.
    """
    declared = Declaration(folders={SETTINGS: 0o755, SETTINGS / "credentials": 0o700})
    unit_files: Mapping[str, str] = arguments["unit_files"]
    declared.files += [ManagedFile(UNIT_FILES / name, text, 0o644) for name, text in unit_files.items()]
    for path, about in arguments["files"].items():
        declared.folders.setdefault(Path(path).parent, 0o755)
        declared.files.append(ManagedFile(Path(path), about["content"], int(about["mode"], 8)))
    for unit, raw in arguments["units"].items():
        _read_unit(unit, raw, unit_files, declared)
    return declared


def _read_unit(unit: str, raw: Mapping[str, Any], unit_files: Iterable[str], declared: Declaration) -> None:
    unknown = set(raw) - UNIT_KEYS
    for instance in (raw.get("instances") or {}).values():
        unknown |= set(instance) - INSTANCE_KEYS
    state = raw.get("state", "started")
    if unknown or state not in STATES:
        problem = f"unknown key {', '.join(sorted(unknown))}" if unknown else f"state {state!r} is none of {STATES}"
        raise RefusedError(f"{unit}: {problem}")
    plain, template = f"cpq-oms-{unit}.service", f"cpq-oms-{unit}@.service"
    instances: Mapping[str, Mapping[str, Any]] = raw.get("instances") or {}
    if instances and template not in unit_files:
        raise RefusedError(f"{unit}: has instances, but {template} is not among the unit files")
    shared = read_environment(unit, raw.get("environment"))
    shown: list[tuple[str, str, Path, Mapping[str, str], str]] = []
    for name, about in instances.items():
        own = {**shared, **read_environment(f"{unit}@{name}", about.get("environment"))}
        path = SETTINGS / f"{unit}-{name}.env"
        shown.append((f"cpq-oms-{unit}@{name}.service", template, path, own, str(about.get("health_url", ""))))
    if not instances:
        shown.append((plain, plain, SETTINGS / f"{unit}.env", shared, str(raw.get("health_url", ""))))
    for service, unit_file, path, environment, health_url in shown:
        declared.files.append(ManagedFile(path, environment_text(environment), 0o644))
        declared.environments.append((unit, environment))
        # A unit without a service of its own, such as the operator's commands, has settings and no process.
        if unit_file in unit_files:
            declared.services.append(
                Service(service, unit, unit_file, environment, path, health_url, state == "started")
            )
    folder = SETTINGS / "credentials" / unit
    credentials = {str(name): str(value) for name, value in (raw.get("credentials") or {}).items()}
    declared.folders[folder] = 0o700
    declared.credentials[unit] = credentials
    declared.files += [ManagedFile(folder / name, value, 0o600, secret=True) for name, value in credentials.items()]
    wanted = {file.path for file in declared.files}
    settings = SETTINGS.glob(f"{unit}-*.env") if instances else iter(())
    declared.strays += sorted(path for path in (*settings, *folder.glob("*")) if path not in wanted)


class Host:
    """systemd and the processes of this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl.

        Raises:
            RefusedError: it failed.
        """
        code, _, err = self._module.run_command(["systemctl", *arguments])
        if code != 0:
            raise RefusedError(f"systemctl {' '.join(arguments)}: {err.strip()}")

    def states(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what systemd knows of each unit, in one call."""
        properties = "Id,ActiveState,SubState,Result,MainPID,UnitFileState,NeedDaemonReload"
        code, out, err = self._module.run_command(["systemctl", "show", f"--property={properties}", *names])
        if code != 0:
            raise RefusedError(f"systemctl show: {err.strip()}")
        found = [dict(line.split("=", 1) for line in block.splitlines()) for block in out.strip().split("\n\n")]
        return dict(zip(names, found, strict=True))

    def undeclared_instances(self, unit: str, declared: Iterable[str]) -> list[str]:
        """Return the loaded or enabled instances of a unit that are not declared."""
        pattern = f"cpq-oms-{unit}@*.service"
        _, out, _ = self._module.run_command(["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern])
        loaded = {line.split()[0] for line in out.splitlines() if line.strip()}
        enabled = {path.name for path in UNIT_FILES.glob(f"*.wants/{pattern}")}
        return sorted((loaded | enabled) - set(declared))

    def journal(self, name: str) -> str:
        """Return the last lines of a unit's journal."""
        lines = str(SHOWN_JOURNAL_LINES)
        _, out, _ = self._module.run_command(
            ["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", "-u", name]
        )
        return str(out).strip()


class Process:
    """The main process of a running service, as it was started."""

    def __init__(self, pid: int) -> None:
        proc = Path("/proc") / str(pid)
        self._program = (proc / "cmdline").read_bytes().split(b"\0")[0].decode()
        pairs = (part.partition(b"=") for part in (proc / "environ").read_bytes().split(b"\0") if part)
        self._environment = {name.decode(): value.decode(errors="replace") for name, _, value in pairs}
        ticks = int((proc / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        self._started_at = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")

    def outdated(self, service: Service, release: Path, credentials: Mapping[str, str]) -> Iterator[str]:
        """Yield each way in which it is not what would be started now."""
        if not self._program.startswith(f"{release}/"):
            yield "release"
        elif self._older_than(release / "release.json"):
            yield "release was installed anew"
        for name in sorted(service.environment):
            if self._environment.get(name) != service.environment[name]:
                yield f"environment {name}"
        for name, value in sorted(credentials.items()):
            if not loaded(service, name, value):
                yield f"credential {name}"
        if self._older_than(UNIT_FILES / service.unit_file):
            yield "unit file"

    def _older_than(self, path: Path) -> bool:
        # A tick of the clock is 10 ms; what was written in the same tick was there before the process.
        return path.stat().st_mtime > self._started_at + 0.02 if path.exists() else False


@dataclass(frozen=True)
class Plan:
    """What this run changes. `actions` says of a service that it is stopped, started or restarted, and why."""

    files: list[ManagedFile]
    folders: list[Path]
    links: list[str]
    strays: list[str]
    actions: dict[str, str]
    enable: list[str]
    disable: list[str]
    reload: bool
    start_target: bool


class Convergence:
    """One run: looks, tries the settings, writes, activates, starts, waits."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._host = Host(module)
        self._root = Path(module.params["root"])
        self._release_id: str = module.params["release_id"]
        self._declared = read_declaration(module.params)
        self._units: list[str] = list(module.params["units"])
        self._changed_paths: list[str] = []
        self._diff: list[dict[str, str]] = []

    def run(self) -> dict[str, Any]:
        """Return the module's result."""
        plan = self._plan()
        self._require_installed()
        self._try_settings(self._touched(plan))
        self._describe(plan)
        if not self._module.check_mode:
            self._write(plan)
            self._bring_up(plan)
            self._wait_until_healthy()
        return {
            "changed": bool(self._diff),
            "changed_paths": self._changed_paths,
            "restarted": sorted(name for name, action in plan.actions.items() if action != STOP),
            "diff": self._diff,
        }

    def _plan(self) -> Plan:
        declared = self._declared
        names = [service.name for service in declared.services]
        templated = [unit for unit in self._units if self._module.params["units"][unit].get("instances")]
        states = self._host.states([TARGET, *names])
        files = [file for file in declared.files if self._note(file)]
        enablement = self._enablement(states)
        return Plan(
            files=files,
            folders=[path for path, mode in declared.folders.items() if self._folder_differs(path, mode)],
            links=[unit for unit in self._units if self._current_name(unit) != self._release_id],
            strays=[name for unit in templated for name in self._host.undeclared_instances(unit, names)],
            actions=self._actions(states, files),
            enable=[name for name, wanted in enablement if wanted],
            disable=[name for name, wanted in enablement if not wanted],
            reload=any(file.path.parent == UNIT_FILES for file in files)
            or any(state["NeedDaemonReload"] == "yes" for state in states.values()),
            start_target=self._has_target and states[TARGET]["ActiveState"] != "active",
        )

    def _touched(self, plan: Plan) -> set[str]:
        """Return the deployables that will run with other settings or another release than before."""
        touched = {service.unit for service in self._declared.services if plan.actions.get(service.name, STOP) != STOP}
        return touched | set(plan.links) | {unit for unit in self._units if self._has_new_settings(unit, plan.files)}

    def _describe(self, plan: Plan) -> None:
        for path in plan.folders:
            self._record(path, "", f"directory, mode {self._declared.folders[path]:04o}")
        for path in self._declared.strays:
            self._record(path, "present", "absent")
        for unit in plan.links:
            self._record(self._root / unit / "current", self._current_name(unit), self._release_id)
        for name in plan.strays:
            self._record(Path(name), "present", "stopped and disabled: not declared")
        for name in (*plan.enable, *plan.disable):
            self._record(Path(name), "", "enabled" if name in plan.enable else "disabled")
        if plan.start_target:
            self._record(Path(TARGET), "", "active")
        for name, action in plan.actions.items():
            self._record(Path(name), "", action)

    def _write(self, plan: Plan) -> None:
        for path in sorted(plan.folders):
            path.mkdir(exist_ok=True)
            os.chown(path, 0, 0)
            path.chmod(self._declared.folders[path])
        for file in plan.files:
            file.write()
        for path in self._declared.strays:
            path.unlink()
            if SETTINGS / "credentials" in path.parents:
                record("removed", path)
        for unit in plan.links:
            self._activate(unit)

    def _bring_up(self, plan: Plan) -> None:
        if plan.reload:
            self._host.systemctl("daemon-reload")
        if plan.strays:
            self._host.systemctl("disable", "--now", "--quiet", *plan.strays)
        if plan.enable:
            self._host.systemctl("enable", "--quiet", *plan.enable)
        if plan.disable:
            self._host.systemctl("disable", "--quiet", *plan.disable)
        if plan.start_target:
            # Only the target itself: what it wants is started by its own declaration, in the release's order.
            self._host.systemctl("start", "--job-mode=ignore-dependencies", TARGET)
        self._start(plan.actions)

    def _note(self, file: ManagedFile) -> bool:
        difference = file.difference()
        if difference:
            self._diff.append(difference)
            self._changed_paths.append(str(file.path))
        return difference is not None

    def _record(self, path: Path, before: str, after: str) -> None:
        name = str(path)
        self._diff.append(
            {
                "before_header": name,
                "after_header": name,
                "before": f"{before}\n" if before else "",
                "after": f"{after}\n",
            }
        )
        if path.is_absolute():
            self._changed_paths.append(name)

    def _folder_differs(self, path: Path, mode: int) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:
            return True
        # Only our own folders are brought to a mode; others merely have to exist.
        ours = path == SETTINGS or SETTINGS in path.parents
        return ours and (status.st_mode & 0o7777, status.st_uid, status.st_gid) != (mode, 0, 0)

    def _release(self, unit: str) -> Path:
        return self._root / unit / "releases" / self._release_id

    def _current_name(self, unit: str) -> str:
        link = self._root / unit / "current"
        return link.readlink().name if link.is_symlink() else ""

    def _activate(self, unit: str) -> None:
        link = self._root / unit / "current"
        new = link.with_name(".current.new")
        new.unlink(missing_ok=True)
        new.symlink_to(Path("releases") / self._release_id)
        new.rename(link)

    def _require_installed(self) -> None:
        missing = [
            unit
            for unit in self._units
            if not (self._release(unit) / "tree.json").is_file() or (self._release(unit) / ".unfinished").exists()
        ]
        # In check mode the release may be what an earlier task would have installed.
        if missing and not self._module.check_mode:
            raise RefusedError(f"{self._release_id} is not installed for {', '.join(missing)}: run app_release first")

    def _has_new_settings(self, unit: str, changed: Iterable[ManagedFile]) -> bool:
        folder = SETTINGS / "credentials" / unit
        environments = {service.environment_file for service in self._declared.services if service.unit == unit}
        environments.add(SETTINGS / f"{unit}.env")
        return any(file.path.parent == folder or file.path in environments for file in changed)

    def _actions(self, states: Mapping[str, Mapping[str, str]], changed: Iterable[ManagedFile]) -> dict[str, str]:
        """Return the services to stop or to start anew, with the reasons."""
        changed_units = {
            file.path.name for file in changed if file.path.parent == UNIT_FILES and not file.same_content()
        }
        actions: dict[str, str] = {}
        for service in self._declared.services:
            state = states[service.name]
            running = state["ActiveState"] in {"active", "reloading"}
            if not service.started:
                if state["ActiveState"] not in {"inactive", "failed"}:
                    actions[service.name] = STOP
                continue
            if not running:
                actions[service.name] = f"start, was {state['ActiveState']}"
                continue
            reasons = self._outdated(service, int(state["MainPID"]))
            if service.unit_file in changed_units and "unit file" not in reasons:
                reasons.append("unit file")
            if reasons:
                actions[service.name] = f"restart: {', '.join(reasons)}"
        return actions

    def _outdated(self, service: Service, pid: int) -> list[str]:
        try:
            process = Process(pid)
        except (FileNotFoundError, ProcessLookupError):
            return ["its process just ended"]
        return list(process.outdated(service, self._release(service.unit), self._declared.credentials[service.unit]))

    def _enablement(self, states: Mapping[str, Mapping[str, str]]) -> list[tuple[str, bool]]:
        wanted = [(service.name, service.started) for service in self._declared.services]
        if self._has_target:
            wanted.append((TARGET, True))
        due = [(name, want) for name, want in wanted if (states[name]["UnitFileState"] == "enabled") != want]
        missing = [name for name in self._timers if not (UNIT_FILES / f"{TARGET}.wants" / name).is_symlink()]
        return [*due, *((name, True) for name in missing)]

    @property
    def _timers(self) -> list[str]:
        """The timers that run as long as the host does: one that says nothing of its installation is started by whoever needs it."""
        unit_files: Mapping[str, str] = self._module.params["unit_files"]
        return [name for name, text in unit_files.items() if name.endswith(".timer") and "\n[Install]\n" in text]

    @property
    def _has_target(self) -> bool:
        """Whether anything here runs by itself; a host of the operators' commands alone has their timers."""
        return bool(self._declared.services or self._timers)

    def _try_settings(self, units: set[str]) -> None:
        problems: list[str] = []
        for unit, environment in self._declared.environments:
            program = self._release(unit) / "bin" / f"cpq-oms-{unit}"
            # In check mode the release may not be there yet.
            if unit not in units or (self._module.check_mode and not program.exists()):
                continue
            with tempfile.TemporaryDirectory(prefix="credentials.", dir=self._module.tmpdir) as folder:
                for name, value in self._declared.credentials[unit].items():
                    (Path(folder) / name).write_text(value, encoding="utf-8")
                # What systemd adds to the declared environment; directories are not touched by the check.
                given = {
                    "CREDENTIALS_DIRECTORY": folder,
                    "PATH": "/usr/bin:/bin",
                    "RUNTIME_DIRECTORY": f"/run/cpq-oms-{unit}",
                    "STATE_DIRECTORY": f"/var/lib/cpq-oms-{unit}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                }
                command = [str(program), "--check-config"]
                done = subprocess.run(
                    command, env={**given, **environment}, cwd=folder, capture_output=True, text=True, check=False
                )
            if done.returncode != 0:
                said = (done.stdout + done.stderr).strip().splitlines()
                problems += [f"{unit}: {line}" for line in said[-SHOWN_JOURNAL_LINES:]] or [f"{unit}: no reason given"]
        if problems:
            raise RefusedError("settings refused, nothing was changed:\n" + "\n".join(dict.fromkeys(problems)))

    def _start(self, actions: Mapping[str, str]) -> None:
        stop = [name for name, action in actions.items() if action == STOP]
        start = [name for name, action in actions.items() if action != STOP]
        if stop:
            self._host.systemctl("stop", *stop)
        if not start:
            return
        # A unit that used up its starts must not be refused now that it may work.
        self._module.run_command(["systemctl", "reset-failed", *start])
        code, _, err = self._module.run_command(["systemctl", "restart", *start])
        if code != 0:
            states = self._host.states(start)
            failed = [name for name in start if states[name]["ActiveState"] != "active"]
            reports = [
                f"{name} did not start ({states[name]['Result']}):\n{self._host.journal(name)}" for name in failed
            ]
            raise RefusedError("\n".join(reports) or err.strip())

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + HEALTH_SECONDS
        for service in self._declared.services:
            if not service.started or not service.health_url:
                continue
            while problem := health_problem(service.health_url):
                if time.monotonic() > deadline:
                    journal = self._host.journal(service.name)
                    raise RefusedError(f"{service.name} is not healthy: {service.health_url}: {problem}\n{journal}")
                time.sleep(HEALTH_PAUSE_SECONDS)


class CredentialChange(Convergence):
    """A run that changes credentials alone: what else is declared waits for a release."""

    def _plan(self) -> Plan:
        self._declared.strays.clear()
        files = [file for file in self._declared.files if file.secret and self._note(file)]
        states = self._host.states([TARGET, *(service.name for service in self._declared.services)])
        actions = {
            service.name: f"restart: credential {', '.join(names)}"
            for service in self._declared.services
            if states[service.name]["ActiveState"] == "active" and (names := self._changed_credentials(service))
        }
        folders = [path for path, mode in self._declared.folders.items() if self._folder_differs(path, mode)]
        return Plan(files, folders, [], [], actions, [], [], reload=False, start_target=False)

    def _changed_credentials(self, service: Service) -> list[str]:
        return [
            name
            for name, value in sorted(self._declared.credentials[service.unit].items())
            if not loaded(service, name, value)
        ]

    def _require_installed(self) -> None:
        missing = [unit for unit in self._units if not self._current_name(unit)]
        if missing:
            raise RefusedError(f"no release is installed for {', '.join(missing)}: release first")

    def _try_settings(self, units: set[str]) -> None:
        """Leave the installed release's settings alone: they do not change here."""

    def _touched(self, plan: Plan) -> set[str]:
        return set()


def loaded(service: Service, name: str, value: str) -> bool:
    """Tell whether a service was started with this credential."""
    path = Path("/run/credentials") / service.name / name
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == value


def health_problem(url: str) -> str:
    """Return why the address does not answer 200, or nothing when it does."""
    # The environment's proxy is for the outside; these are addresses of this host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as reply:
            return "" if reply.status == OK else f"status {reply.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return str(error)


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
            "root": {"type": "path", "required": True},
            "release_id": {"type": "str"},
            "unit_files": {"type": "dict", "required": True},
            "files": {"type": "dict", "default": {}},
            "units": {"type": "dict", "required": True},
            "credentials_only": {"type": "bool", "default": False},
        },
        required_if=[("credentials_only", False, ("release_id",))],
        supports_check_mode=True,
    )
    os.umask(0o022)
    for declaration in module.params["units"].values():
        secrets = {str(value) for value in (declaration.get("credentials") or {}).values()}
        module.no_log_values.update(secrets - {""})
    try:
        result = (CredentialChange if module.params["credentials_only"] else Convergence)(module).run()
    except (RefusedError, OSError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
