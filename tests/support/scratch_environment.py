"""An environment of a test's own: an inventory in a temporary folder, its hosts, and a view of every trace it leaves.

The traces are read from the machine (mounts, links, firewall, control groups, processes, files), never from our own code,
so a test that compares them would notice what the code under test forgot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "inventories/local/group_vars"
# Whose variables an environment has, by where its machines come from.
VARIABLES = {"nspawn": LOCAL, "existing": ROOT / "inventories/staging/group_vars"}
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
COMMAND_SECONDS = 300


@dataclass
class ScratchEnvironment:
    """An inventory like local's with its own name, subnet, hosts and folders.

    With machines "existing" it is one like staging's: what is brought up is a rehearsal, in a network of its own. One that is `like`
    another inventory has that one's machines, subnet, hosts and groups, and its own name alone.
    """

    folder: Path
    name: str = "scratcht"
    subnet: str = "10.56.4.0/24"
    hosts: Mapping[str, str] = field(default_factory=lambda: {"scratch-1": "10.56.4.11"})
    cache: Path = Path("/var/cache/cpq-oms")
    state: Path | None = None
    machines: str = "nspawn"
    like: str = ""

    @property
    def inside(self) -> tuple[str, ...]:
        """What goes before a command that is to see the hosts."""
        return ("ip", "netns", "exec", f"cpq-{self.name}") if self.machines == "existing" else ()

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory"

    @property
    def state_directory(self) -> Path:
        return self.state or Path("/var/lib/cpq-oms") / self.name

    @property
    def settings(self) -> Path:
        return self.inventory / "group_vars/all/environment.yml"

    def write(self) -> None:
        """Write the inventory: variables are those of local or staging, linked, except for those that tell environments apart."""
        shutil.rmtree(self.inventory, ignore_errors=True)
        everything = self.inventory / "group_vars/all"
        everything.mkdir(parents=True)
        variables = self._variables()
        for path in variables.iterdir():
            if path.name != "all":
                (self.inventory / "group_vars" / path.name).symlink_to(path)
        for path in (variables / "all").iterdir():
            # The vault is another environment's.
            if path.name not in {"environment.yml", "vault.yml"}:
                (everything / path.name).symlink_to(path)
        owned = self.state_directory if self.machines == "nspawn" else f"/etc/cpq-oms/{self.name}"
        lines = [
            f"cpq_env: {self.name}",
            f"cpq_state_dir: {owned}",
            f"cpq_cache_dir: {self.cache}",
            f"cpq_evidence_dir: {self.folder / 'evidence'}",
            *([] if self.like else [f"cpq_subnet: {self.subnet}"]),
        ]
        self.settings.write_text("\n".join([*lines, *self._other_settings(lines)]) + "\n")
        if self.like:
            (self.inventory / "hosts.yml").symlink_to(variables.parent / "hosts.yml")
            return
        hosts = "".join(f"    {name}: {{ansible_host: {address}}}\n" for name, address in self.hosts.items())
        (self.inventory / "hosts.yml").write_text(f"all:\n  hosts:\n{hosts}")

    def _variables(self) -> Path:
        return ROOT / "inventories" / self.like / "group_vars" if self.like else VARIABLES[self.machines]

    def _other_settings(self, own: Sequence[str]) -> list[str]:
        names = tuple(f"{line.partition(':')[0]}:" for line in own)
        lines = (self._variables() / "all/environment.yml").read_text().splitlines()
        return [line for line in lines if not line.startswith((*names, "#", "---"))]

    def set_up(self, command: str, *extra: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a set-up command as the Makefile does."""
        line = [
            *prefix,
            "python3",
            "bootstrap.py",
            command,
            "--env",
            str(self.inventory),
            *(("--", *extra) if extra else ()),
        ]
        return run(line)

    def play(self, playbook: str, *extra: str) -> subprocess.CompletedProcess[str]:
        """Run one playbook directly, without the set-up around it."""
        rehearsed = ("-e", "cpq_rehearsal=true") if self.inside else ()
        return run([str(ANSIBLE), "-i", str(self.inventory), f"playbooks/{playbook}.yml", *rehearsed, *extra])

    def take_down(self) -> dict[str, list[str]]:
        """Remove what there is of it and return what is left; its inventory is written anew, for a test may have broken it."""
        if any(self.traces().values()):
            self.write()
            down = self.play("hosts_down")
            print(down.stdout if down.returncode else "", end="", flush=True)
        return {kind: found for kind, found in self.traces().items() if found}

    def on_host(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host by plain ssh."""
        return run([*self.inside, "ssh", "-F", str(self.state_directory / "ssh_config"), host, command])

    def is_running(self, host: str) -> bool:
        """Whether the host's machine runs, as its processes say."""
        return bool(self.processes(f"--machine=cpq-{self.name}-{host} "))

    @staticmethod
    def until(condition: Callable[[], bool], claim: str, seconds: float = 30) -> None:
        """Return when the condition holds."""
        until(condition, claim, seconds)

    def traces(self) -> dict[str, list[str]]:
        """List everything on this machine that belongs to the environment."""
        groups = [
            path
            for root in ("unified", "systemd", ".")
            for path in (Path("/sys/fs/cgroup") / root).glob(f"cpq-{self.name}-*")
        ]
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        state = self.state_directory
        # Layers belong to the hosts, which write to them all the time.
        files = [
            str(path)
            for path in state.rglob("*")
            if "upper" not in path.parts and "work" not in path.parts and "root" not in path.parts
        ]
        networks = [Path(folder, f"cpq-{self.name}") for folder in ("/sys/class/net", "/run/netns", "/etc/netns")]
        return {
            # A link that leads nowhere is there, too.
            "networks": [str(path) for path in networks if path.exists() or path.is_symlink()],
            "tables": [line for line in self.tables() if line.endswith(f" cpq_{self.name}")],
            "groups": sorted(str(path) for path in groups),
            "mounts": sorted(point for point in mounts if Path(point).is_relative_to(state) and Path(point) != state),
            "files": sorted(path for path in files if "/connections/" not in path),
            "supervisors": self.processes(f"--machine=cpq-{self.name}-"),
            "connections": self.processes(f"ssh: {self.state_directory}/connections"),
            "marks": sorted(str(path) for path in Path("/run/systemd/nspawn").glob(f"*/cpq-{self.name}-*")),
        }

    @staticmethod
    def tables() -> list[str]:
        """List the machine's firewall tables: none before the first hosts, which bring the tool that makes them."""
        if not shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            return []
        return run(["nft", "list", "tables"]).stdout.splitlines()

    @staticmethod
    def processes(part: str) -> list[str]:
        """List the command lines that contain a text."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            line = words.decode(errors="replace").replace("\0", " ")
            if part in line:
                found.append(line)
        return sorted(found)


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command from the repository root; the caller judges how it ended."""
    path = f"{ANSIBLE.parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=COMMAND_SECONDS,
    )
