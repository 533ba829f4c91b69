"""Runs a deployable as a process of its own, the way systemd does: environment, credentials, a notify socket, signals."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# What each unit is told, and nothing else.
SETTINGS: dict[str, dict[str, object]] = json.loads((ROOT / "app/contracts/settings.json").read_text())


class UnitProcess:
    """One process of a unit.

    Args:
        unit: the deployable, such as `worker`.
        settings: its environment variables; the metrics address is chosen here.
        credentials: its credential files, by name.
        watchdog_seconds: what systemd would set as WatchdogSec, or None.
        tree: the source tree that the process runs from.
    """

    def __init__(
        self,
        unit: str,
        settings: Mapping[str, str],
        credentials: Mapping[str, str],
        watchdog_seconds: float | None = None,
        tree: Path = ROOT,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=f"cpq-oms-{unit}-")
        folder = Path(self._folder.name)
        for name, secret in credentials.items():
            (folder / name).write_text(secret)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(0.1)
        self._metrics_port = free_port()
        self._messages: queue.Queue[str] = queue.Queue()
        # Read at once, as systemd does: a sender blocks when a few messages wait.
        self._reader = threading.Thread(target=self._read_notifications, daemon=True)
        self._log = folder / "log"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tree),
            "APP_ENV": "ci",
            "APP_INSTANCE_ID": f"{unit}-tests",
            "TENANT_MODE": "multi",
            **({"OTLP_ENDPOINT": ""} if "OTLP_ENDPOINT" in SETTINGS[unit] else {}),
            "TLS_CA_FILE": "",
            "LOG_LEVEL": "INFO",
            "METRICS_BIND": f"127.0.0.1:{self._metrics_port}",
            "CREDENTIALS_DIRECTORY": str(folder),
            "NOTIFY_SOCKET": str(folder / "notify"),
            **({"WATCHDOG_USEC": str(int(watchdog_seconds * 1_000_000))} if watchdog_seconds else {}),
            **settings,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"app.entrypoints.{unit}"],
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its process group."""
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything the process wrote."""
        return self._log.read_text()

    def wait_ready(self) -> Self:
        """Return when the process reported READY; fail with its log when it does not."""
        if not self.wait_for("READY=1", START_SECONDS):
            status = self._process.poll()
            log = self.log
            self.kill()
            raise AssertionError(f"not ready, exit status {status}: {log}")
        return self

    def wait_for(self, text: str, seconds: float) -> bool:
        """Whether a notification with `text` comes in time, from now on or unread; a process that ends sends none."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            is_alive = self._process.poll() is None
            try:
                if text in self._messages.get(timeout=min(left, 0.2)):
                    return True
            except queue.Empty:
                if not is_alive:
                    return False
        return False

    def _read_notifications(self) -> None:
        while self._notify.fileno() >= 0:
            try:
                self._messages.put(self._notify.recv(4096).decode())
            except TimeoutError:
                continue
            except OSError:
                return

    def metric(self, series: str) -> float:
        """The value of a series of /metrics, 0 when there is none yet."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(f"{series} "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def freeze(self) -> None:
        """Stop its time, as a long pause of the machine does."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its time go on."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to stop and return at once."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 45.0) -> int:
        """Return its exit status."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it and its children as a crash of the unit would; harmless when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it whatever its state, and remove its files."""
        self.kill()
        self._notify.close()
        self._reader.join()
        self._folder.cleanup()
