"""A host that carries the released platform: commands on it, and its units changed for a while and put back."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import KafkaAdminClient

from tests.support.waiting import until

STATE = Path("/var/lib/cpq-oms")
SETTLE_SECONDS = 60
DROP_IN = "cpq-oms-test.conf"


@dataclass(frozen=True)
class ReleasedHost:
    """One host of the environment for tests."""

    environment: str
    name: str
    address: str

    def run(
        self, command: str, *, check: bool = True, standard_input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host as root."""
        ssh = ["ssh", "-F", str(STATE / self.environment / "ssh_config"), self.name, command]
        done = subprocess.run(ssh, input=standard_input or "", capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def unit(self, name: str) -> dict[str, str]:
        """What systemd knows of a unit."""
        wanted = "ActiveState,SubState,Result,MainPID,NRestarts,ExecMainStatus,StatusText"
        out = self.run(f"systemctl show --property={wanted} {shlex.quote(name)}").stdout
        return dict(line.split("=", 1) for line in out.splitlines())

    def journal(self, name: str) -> str:
        """The end of a unit's journal, for the message of a test that fails."""
        return self.run(f"journalctl --no-pager --lines=40 -o cat -u {shlex.quote(name)}").stdout

    def secret(self, name: str) -> str:
        """A generated secret of the environment."""
        return (STATE / self.environment / "secrets" / name).read_text().strip()

    @contextmanager
    def kafka_administrator(self) -> Iterator[KafkaAdminClient]:
        """A client of the host's broker that may do everything there."""
        client = KafkaAdminClient(
            bootstrap_servers=f"{self.address}:9092",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_plain_username="admin",
            sasl_plain_password=self.secret("kafka_admin_password"),
        )
        try:
            yield client
        finally:
            client.close()

    def wait_until(self, condition: Callable[[], bool], claim: str, seconds: float = SETTLE_SECONDS) -> None:
        """Return when `condition` holds; fail with the claim when it does not in time."""
        until(condition, claim, seconds)

    def is_active(self, name: str) -> bool:
        """Whether a unit runs and has said that it is ready."""
        return self.unit(name)["ActiveState"] == "active"

    @contextmanager
    def altered(self, units: Mapping[str, str], files: Mapping[str, str]) -> Iterator[None]:
        """Add a drop-in to each unit, and files below /run; take all of it away and start the units again at the end."""
        folders = {name: f"/run/systemd/system/{name}.d" for name in units}
        try:
            for path, content in files.items():
                self.run(
                    f"mkdir -p {shlex.quote(str(Path(path).parent))}; cat > {shlex.quote(path)}", standard_input=content
                )
            for name, folder in folders.items():
                self.run(f"mkdir -p '{folder}'; cat > '{folder}/{DROP_IN}'", standard_input=units[name])
            self.run("systemctl daemon-reload")
            yield
        finally:
            paths = [*(f"{folder}/{DROP_IN}" for folder in folders.values()), *files]
            names = shlex.join(units)
            self.run(f"rm -f {shlex.join(paths)}; systemctl daemon-reload; systemctl reset-failed {names}", check=False)
            self.run(f"systemctl restart {names}")


def find_host(environment: str | None = None) -> ReleasedHost:
    """Return the first host of an environment: without a name of that which CPQ_TEST_INVENTORY_ENV names, or of `ci`.

    Raises:
        FileNotFoundError: its hosts were never brought up.
    """
    environment = environment or os.environ.get("CPQ_TEST_INVENTORY_ENV", "ci")
    lines = (STATE / environment / "ssh_config").read_text().split("\n")
    words = [line.split() for line in lines if line.strip()]
    name = next(word[1] for word in words if word[0] == "Host" and "*" not in word[1])
    address = next(word[1] for word in words if word[0] == "HostName")
    return ReleasedHost(environment, name, address)
