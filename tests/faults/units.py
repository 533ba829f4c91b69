"""The platform's units as processes of a source tree, against the services of a released host.

Settings and credentials are those that the release installed on the host, so that a unit here is the unit there with
another address to listen on. The host's own units rest meanwhile; its simulator is everybody's outside world.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from app.contracts.loader import load_external_systems
from tests.faults.postgres_proxy import PostgresProxy
from tests.support.loopback_proxy import LoopbackProxy
from tests.support.released_host import STATE, ReleasedHost, find_host
from tests.support.tcp_proxy import TcpProxy
from tests.support.unit_process import ROOT, UnitProcess, free_port

FOLDER = "/etc/cpq-oms"
# What works on shared state on the host; its API and its simulator may stay, nobody asks the one.
_RESTING = "cpq-oms-worker@* cpq-oms-consumer@* cpq-oms-relay.service cpq-oms-callback.service cpq-oms-*.timer"
_NOT_RUN = ("admin", "console", "simulator")
# A fault that waits for a lapse waits for the shortest one that the settings allow.
_HASTE = {"relay": {"RELAY_LEASE_DURATION": "PT10S"}, "worker": {"EXTERNAL_TIMEOUT": "PT2S"}}


@dataclass(frozen=True, slots=True)
class Definition:
    """A unit as the release installed it: its settings and its credentials, by name."""

    unit: str
    instance: str | None
    settings: Mapping[str, str]
    credentials: Mapping[str, str]

    @property
    def name(self) -> str:
        """Such as `relay` or `worker@starter`."""
        return self.unit if self.instance is None else f"{self.unit}@{self.instance}"


def read_definitions(host: ReleasedHost) -> dict[str, Definition]:
    """Read what the release installed, by the unit's name."""
    ssh = ["ssh", "-F", str(STATE / host.environment / "ssh_config"), host.name, f"tar -C {FOLDER} -c ."]
    packed = subprocess.run(ssh, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = {
            member.name.removeprefix("./"): handle.read().decode()
            for member in archive.getmembers()
            if member.isfile() and (handle := archive.extractfile(member)) is not None
        }
    found = {}
    for path, content in files.items():
        if not path.endswith(".env"):
            continue
        unit, _, instance = path.removesuffix(".env").partition("-")
        settings = dict(line.split("=", 1) for line in shlex.split(content, comments=True) if "=" in line)
        credentials = {
            name.rpartition("/")[2]: secret.rstrip("\n")
            for name, secret in files.items()
            if name.startswith(f"credentials/{unit}/")
        }
        definition = Definition(unit, instance or None, settings, credentials)
        found[definition.name] = definition
    return found


def _called_back_at(definition: Definition, receiver: str) -> Definition:
    """The same unit, with the receiver of callbacks at another address."""
    moved = {"callback": {"HTTP_BIND": receiver}, "worker": {"CALLBACK_URL": f"http://{receiver}"}}
    return replace(definition, settings={**definition.settings, **moved.get(definition.unit, {})})


def _address_towards(host: str) -> str:
    """This machine's own address on the way to a host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        return str(probe.getsockname()[0])


def _server(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _through(url: str, way: LoopbackProxy) -> str:
    """The same URL by way of a proxy."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit(parts._replace(netloc=f"{user}{way.address}"))


class Unit:
    """One unit under fault: its process, and by name its ways to what it works with, each of which can be disturbed.

    Args:
        definition: what it runs with.
        tree: the source tree it runs from.
    """

    def __init__(self, definition: Definition, tree: Path) -> None:
        self.definition = definition
        self.tree = tree
        self.is_frozen = False
        self.http_port = free_port()
        self._logs: list[str] = []
        self._process: UnitProcess | None = None
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        settings = {name: value for name, value in definition.settings.items() if name != "METRICS_BIND"}
        settings |= _HASTE.get(definition.unit, {})
        self._state = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cpq-oms-state-")))
        settings |= {"STATE_DIRECTORY": str(self._state), "RUNTIME_DIRECTORY": str(self._state)}
        self.ways: dict[str, LoopbackProxy] = {}
        self.database: PostgresProxy | None = None
        self.engine: TcpProxy | None = None
        if "DB_URL" in settings:
            parts = urlsplit(settings["DB_URL"])
            assert parts.hostname is not None
            self.database = self._stack.enter_context(PostgresProxy((parts.hostname, parts.port or 5432)))
            self.ways["postgresql"] = self.database
            settings["DB_URL"] = _through(settings["DB_URL"], self.database)
        if "CAMUNDA_GRPC_ADDRESS" in settings and definition.unit == "worker":
            self.engine = self._stack.enter_context(TcpProxy(settings["CAMUNDA_GRPC_ADDRESS"]))
            self.ways["engine"] = self.engine
            settings["CAMUNDA_GRPC_ADDRESS"] = self.engine.address
        if "REDIS_URL" in settings:
            self.ways["redis"] = redis = self._stack.enter_context(TcpProxy(_server(settings["REDIS_URL"])))
            settings["REDIS_URL"] = _through(settings["REDIS_URL"], redis)
        providers = [policy.endpoint.setting for policy in load_external_systems().values()]
        if providers[0] in settings:
            # All of them are the one simulator of the host.
            way = self._stack.enter_context(TcpProxy(_server(settings[providers[0]])))
            self.ways["providers"] = way
            settings |= {name: _through(settings[name], way) for name in providers}
        if "HTTP_BIND" in settings and definition.unit != "callback":
            settings["HTTP_BIND"] = f"127.0.0.1:{self.http_port}"
        self._settings = settings

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def pids(self) -> list[int]:
        """The process and its children, of those that live."""
        process = self._process
        if process is None or not Path(f"/proc/{process.pid}").exists():
            return []
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with contextlib.suppress(OSError):
            return [process.pid, *(int(child) for child in children.read_text().split())]
        return []

    @property
    def log(self) -> str:
        """Everything it wrote, before its deaths too."""
        current = self._process.log if self._process is not None else ""
        return "".join(self._logs) + current

    def start(self) -> None:
        """Start its process without waiting for it."""
        with self._lock:
            self._forget()
            self._process = UnitProcess(
                self.definition.unit, self._settings, self.definition.credentials, tree=self.tree
            )

    def wait_ready(self) -> None:
        """Return when it is ready; fail with its log when it does not get there."""
        process = self._process
        assert process is not None
        process.wait_ready()

    def kill(self) -> None:
        """End it at once, as a crash does; its connections are left to the kernel."""
        if self._process is not None:
            self._process.kill()

    def freeze(self) -> None:
        """Stop its time, its children's too."""
        self.is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def restart(self) -> None:
        """Start it again as the service manager does after a crash, and wait for it."""
        self.start()
        self.wait_ready()

    def move(self, tree: Path) -> None:
        """Run it from another source tree from its next start on."""
        self.tree = tree

    def forget_former_logs(self) -> None:
        """Keep what the living process writes, and nothing from before it."""
        self._logs.clear()

    def close(self) -> None:
        """End it for good."""
        if self.is_frozen:
            self.thaw()
        with self._lock:
            self._forget()
        self._stack.close()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._logs.append(self._process.log)
            self._process.close()
            self._process = None


class Units:
    """Every unit of the platform, running from one source tree.

    Args:
        tree: the source tree.
    """

    def __init__(self, tree: Path = ROOT) -> None:
        self.host = find_host()
        # The simulator calls back from its host to this machine.
        receiver = f"{_address_towards(self.host.address)}:{free_port()}"
        self.definitions = {
            name: _called_back_at(definition, receiver) for name, definition in read_definitions(self.host).items()
        }
        self.tree = tree
        self._units: dict[str, Unit] = {}
        self._rested: list[str] = []

    def __enter__(self) -> Self:
        listed = self.host.run(
            f"systemctl list-units --no-legend --plain --state=active,activating {shlex.join(_RESTING.split())}"
        ).stdout
        self._rested = [line.split()[0] for line in listed.splitlines() if line.strip()]
        if self._rested:
            self.host.run(f"systemctl stop {shlex.join(self._rested)}")
        try:
            for name, definition in self.definitions.items():
                if definition.unit not in _NOT_RUN:
                    self._units[name] = Unit(definition, self.tree)
            for unit in self:
                unit.start()
            for unit in self:
                unit.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Unit]:
        return iter(list(self._units.values()))

    def __getitem__(self, name: str) -> Unit:
        return self._units[name]

    def add_twin(self, name: str) -> Unit:
        """Start a second process of a unit under a name of its own, such as `relay-2`."""
        original = self._units[name]
        instance = original.definition.settings["APP_INSTANCE_ID"] + "-2"
        settings = {**original.definition.settings, "APP_INSTANCE_ID": instance}
        twin = Unit(replace(original.definition, settings=settings), original.tree)
        self._units[f"{name}-2"] = twin
        twin.restart()
        return twin

    def remove_twin(self, name: str) -> str:
        """End a twin and return its log."""
        twin = self._units.pop(f"{name}-2")
        log = twin.log
        twin.close()
        return log

    def use(self, tree: Path, names: Sequence[str]) -> None:
        """Run some units from another source tree, from now on."""
        for name in names:
            self._units[name].kill()
            self._units[name].move(tree)
            self._units[name].start()
            self._units[name].forget_former_logs()  # what another tree's code wrote is not this one's
        for name in names:
            self._units[name].wait_ready()

    def close(self) -> None:
        """End every unit and let the host's own go on."""
        for unit in self:
            unit.close()
        self._units.clear()
        if self._rested:
            self.host.run(f"systemctl start {shlex.join(self._rested)}", check=False)
            self._rested = []
