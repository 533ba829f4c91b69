"""Bring the hosts of one environment up, or take every trace of them down.

Why one module for all hosts: an unchanged environment then costs one task, and hosts boot at the same time. Each host is an
overlay over a shared image, booted by systemd-nspawn in a cgroup of its own. That cgroup is the only record of what runs:
whatever lives in it belongs to the host, also when a killed supervisor left it behind, so no process id is ever trusted.

Everything can be killed at any point and run again: images and hosts are made under a temporary name and renamed, and what is
half made is cleared before it is made anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils import nspawn_preflight
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nspawn_hosts
short_description: Hosts of one environment as systemd-nspawn machines
description:
  - Makes the image, the bridge, the firewall table, the keys and the hosts of one environment, or removes them all.
options:
  state: {description: Whether the environment's hosts are up or gone., type: str, choices: [present, absent], default: present}
  environment: {description: Name of the environment; names the bridge and the firewall table., type: str, required: true}
  state_directory: {description: Where the environment's hosts and keys are kept., type: path, required: true}
  cache_directory: {description: Where images are kept., type: path, required: true}
  subnet: {description: The environment's own IPv4 subnet; its first address is the gateway., type: str, required: true}
  hosts: {description: Address of each host by name., type: dict, required: true}
  release: {description: Debian release of the image., type: str, required: true}
  packages: {description: Debian packages in the image., type: list, elements: str, required: true}
  disabled_units: {description: Units that are off in the image., type: list, elements: str, required: true}
  rebuild: {description: Make every host anew, its disk included., type: bool, default: false}
  namespace: {description: Whether the hosts live in a network namespace of their own, from which nothing outside can be reached., type: bool, default: false}
  aliases: {description: Address by further name that hosts resolve., type: dict, default: {}}
  login: {description: User besides root whom the key lets in and who may become root; empty for none., type: str, default: ""}
  restart: {description: Restart a host that runs and does not answer on ssh; without it such a host stops the run before any change on a host., type: bool, default: false}
  keep_secrets: {description: With state absent leave the secrets folder in place., type: bool, default: false}
  boot_timeout: {description: Seconds until a started host must answer on ssh., type: int, default: 60}
"""

EXAMPLES = r"""
- name: Bring the hosts up
  nspawn_hosts:
    environment: local
    state_directory: /var/lib/cpq-oms/local
    cache_directory: /var/cache/cpq-oms
    subnet: 10.56.1.0/24
    hosts: {local-1: 10.56.1.11}
    release: trixie
    packages: [systemd, systemd-sysv, dbus, python3, openssh-server]
    disabled_units: []
"""

RETURN = r"""
actions: {description: What was done or, in check mode, would be done; one line each., type: list, returned: always}
hosts: {description: Address and seconds until ssh answered for each host., type: dict, returned: state is present}
image: {description: Name of the image that new hosts are made from., type: str, returned: state is present}
"""

# Raise it when the way an image is made changes: the image's name is a hash of its inputs and of this.
IMAGE_RECIPE = 2
INOTIFY_INSTANCES = 2048
CLONE_NEWNET = 0x40000000  # of sched.h; os has it from Python 3.12 on
STOP_SECONDS = 15
GRACE_SECONDS = 10
LOCK_SECONDS = 600
SETTINGS = {"net/ipv4/ip_forward": 1, "fs/inotify/max_user_instances": INOTIFY_INSTANCES}
# Where iproute2 keeps namespaces by name, and what it mounts over /etc for a program that it runs in one.
NAMESPACES = Path("/run/netns")
NAMESPACE_FILES = Path("/etc/netns")
# What environments own on the control machine: vaults and certificate authorities.
OWNED = Path("/etc/cpq-oms")


# With --keep-unit nspawn leaves a reboot to its service manager and ends with 133; here this loop is that manager.
# The machine gets a fresh control group each time: units die at start in one that an earlier boot has used.
SUPERVISE = """
while :; do
    for group in $CONTROL_GROUPS; do mkdir "$group/machine"; done
    ( for group in $CONTROL_GROUPS; do echo 0 > "$group/machine/cgroup.procs"; done; exec "$@" )
    [ $? -eq 133 ] || exit
    for group in $CONTROL_GROUPS; do find "$group/machine" -depth -type d -exec rmdir {} +; done
done
"""


class HostsError(Exception):
    """One line for the person at the keyboard: what is wrong with what, and the remedy."""


def run(*command: str, data: str | None = None) -> str:
    """Run a program and return what it printed; a failure carries its last words."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, input=data, stdin=None if data else subprocess.DEVNULL
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise HostsError(f"{' '.join(command[:4])} ended with {done.returncode}: {' / '.join(words)}")
    return done.stdout


def write(path: Path, content: str, mode: int = 0o644) -> bool:
    """Put content in place by rename and tell whether that changed anything."""
    try:
        if path.read_text() == content and path.stat().st_mode & 0o7777 == mode and not path.is_symlink():
            return False
    except OSError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(content)
    temporary.chmod(mode)
    temporary.rename(path)
    return True


@contextlib.contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold a lock file; a lock dies with its process, so nothing is ever left to break."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HostsError(
                        f"{waiting_for} is still at work ({path} is locked); wait for it or end it"
                    ) from None
                time.sleep(0.2)
        yield


class Namespace:
    """A network of our own, without a way out: a rehearsal's hosts have the addresses of real ones.

    Nothing in it knows a route but its own subnet's, and a program that `ip netns exec` runs in it finds, in place of
    /etc/hosts, /etc/ssh and the like, what `control` holds.
    """

    def __init__(self, name: str, control: Path) -> None:
        self.name = name
        self.control = control
        self.path = NAMESPACES / name
        self.files = NAMESPACE_FILES / name

    def exists(self) -> bool:
        return self.path.exists()

    def enter(self) -> None:
        """Move this process in; what it starts stays in."""
        with self.path.open() as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET) != 0:
                raise HostsError(f"network namespace {self.name} cannot be entered: {os.strerror(ctypes.get_errno())}")

    def create(self) -> None:
        run("ip", "netns", "add", self.name)
        run("ip", "-netns", self.name, "link", "set", "lo", "up")

    def link_files(self) -> None:
        self.files.parent.mkdir(parents=True, exist_ok=True)
        self.files.unlink(missing_ok=True)
        self.files.symlink_to(self.control)

    def remove(self) -> None:
        self.files.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.files.parent.rmdir()
        if self.exists():
            run("ip", "netns", "delete", self.name)


class Cgroup:
    """A control group of our own around everything that belongs to one host (or to one image build)."""

    def __init__(self, name: str) -> None:
        """Name the group in every hierarchy that systemd uses here: one (unified) or two (hybrid)."""
        root = Path("/sys/fs/cgroup")
        unified = root if (root / "cgroup.controllers").exists() else root / "unified"
        self.unified = unified / name
        self.all = [
            self.unified,
            *([root / "systemd" / name] if (root / "systemd").is_dir() and unified != root else []),
        ]

    def join(self) -> None:
        """Move the calling process in; everything it starts stays in."""
        for group in self.all:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def create(self) -> None:
        for group in self.all:
            group.mkdir(exist_ok=True)

    def processes(self) -> list[int]:
        found: set[int] = set()
        for group in self.all:
            for folder, _, _ in os.walk(group):
                with contextlib.suppress(OSError):
                    found.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
        return sorted(found)

    def supervisor(self) -> int | None:
        """Return the systemd-nspawn process, without which a host cannot be stopped cleanly nor reboot."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process}/comm").read_text().strip() == "systemd-nspawn" and not _is_zombie(process):
                    parent = _parent(process)
                    # nspawn forks once into the container; the outermost of them is the supervisor.
                    if not (parent and Path(f"/proc/{parent}/comm").read_text().strip() == "systemd-nspawn"):
                        return process
        return None

    def exists(self) -> bool:
        return any(group.exists() for group in self.all)

    def is_rebooting(self) -> bool:
        """Tell whether only the loop is left that boots the host again."""
        return self.supervisor() is None and len(self.processes()) == 1

    def is_frozen(self) -> bool:
        with contextlib.suppress(OSError):
            return (self.unified / "cgroup.freeze").read_text().strip() == "1"
        return False

    def thaw(self) -> None:
        with contextlib.suppress(OSError):
            (self.unified / "cgroup.freeze").write_text("0")

    def remove(self) -> None:
        """Kill what is left inside and remove the tree; units of a later host of this name die at start otherwise."""
        self.thaw()
        deadline = time.monotonic() + STOP_SECONDS
        while self.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                (self.unified / "cgroup.kill").write_text("1")
            for process in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for group in self.all:
                for folder, _, _ in os.walk(group, topdown=False):
                    with contextlib.suppress(OSError):
                        Path(folder).rmdir()
            time.sleep(0.02)
        if self.exists():
            raise HostsError(f"control group {self.unified} cannot be removed: processes {self.processes()} do not end")


def _is_zombie(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def mounts_below(directory: Path) -> list[str]:
    """List mount points at or below a directory, innermost first."""
    points = [line.split()[4].replace("\\040", " ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(directory)), key=len, reverse=True)


class Image:
    """The root file system shared by the hosts: Debian with every service package, made once per content hash."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        recipe = {key: parameters[key] for key in ("release", "packages", "disabled_units")}
        recipe["packages"] = sorted(set(recipe["packages"]))
        self.recipe = {**recipe, "recipe": IMAGE_RECIPE}
        self.name = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:16]
        self.images = Path(parameters["cache_directory"]) / "images"
        self.path = self.images / self.name

    @property
    def root(self) -> Path:
        return self.path / "root"

    def exists(self) -> bool:
        return self.path.exists()

    def build(self) -> None:
        """Make the image under a temporary name; a build that was killed is cleared first, its processes included."""
        self.images.mkdir(parents=True, exist_ok=True)
        with locked(self.images / f".{self.name}.lock", f"another build of the image {self.name}"):
            if self.exists():
                return
            group = Cgroup(f"cpq-image-{self.name}")
            group.remove()
            unfinished = self.images / f".{self.name}.unfinished"
            remove_tree(unfinished)
            unfinished.mkdir()
            group.create()
            try:
                self._bootstrap(unfinished / "root", group)
            finally:
                group.remove()
            status = unfinished / "root/var/lib/dpkg/status"
            stamp = {"image": self.name, "dpkg_status_bytes": status.stat().st_size, **self.recipe}
            write(unfinished / "image.json", json.dumps(stamp, indent=2) + "\n")
            unfinished.rename(self.path)

    def _bootstrap(self, root: Path, group: Cgroup) -> None:
        # The postgresql role owns its cluster, so the package must not make one; hooks get the root as $1.
        no_cluster = (
            'mkdir -p "$1/etc/postgresql-common/createcluster.d" && '
            'echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.d/10-role-owns-clusters.conf"'
        )
        units = " ".join(self.recipe["disabled_units"])
        # Keys and ids are each host's own; a journal that outlives a boot is what a VM has.
        finish = (
            'rm -f "$1"/etc/ssh/ssh_host_*_key* "$1/etc/machine-id" "$1/etc/hostname" && '
            'mkdir -p "$1/var/log/journal" "$1/etc/systemd/network" && install -d -m 0700 "$1/root/.ssh" && '
            'chroot "$1" systemctl enable --quiet systemd-networkd.service ssh.service'
            + (f' && chroot "$1" systemctl disable --quiet {units}' if units else "")
        )
        log = root.parent / "build.log"
        command = [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            # With the lists a role's check mode can find packages, and its apt task needs no update first.
            "--skip=cleanup/apt/lists",
            # No power can fail under a host's disk that would not also take the whole environment.
            "--dpkgopt=force-unsafe-io",
            f"--essential-hook={no_cluster}",
            f"--customize-hook={finish}",
            f"--include={','.join(self.recipe['packages'])}",
            str(self.recipe["release"]),
            str(root),
        ]
        with log.open("w") as output:
            done = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=group.join,
            )
        if done.returncode:
            errors = [line for line in log.read_text().splitlines() if line.startswith(("E:", "dpkg: error"))]
            raise HostsError(
                f"image {self.name} cannot be built: {(errors or ['no error line'])[0]}; the whole log is {log}"
            )


def remove_tree(path: Path) -> None:
    """Remove a folder and whatever is still mounted in it."""
    for point in mounts_below(path):
        run("umount", "--lazy", point)
    if not path.exists():
        return
    doomed = path
    if ".removed-" not in path.name:
        # Renamed first: a removal that is killed half-way must not look like the thing itself.
        doomed = path.with_name(f".{path.name.lstrip('.')}.removed-{uuid.uuid4().hex[:8]}")
        path.rename(doomed)
    shutil.rmtree(doomed)


def sweep(directory: Path) -> None:
    """Finish the removals that an earlier run was killed in."""
    for doomed in directory.glob(".*.removed-*") if directory.exists() else ():
        remove_tree(doomed)


class Host:
    """One machine: an overlay, an address, a key, and a cgroup with systemd in it."""

    def __init__(self, environment: Environment, name: str, address: str | None) -> None:
        self.environment = environment
        self.name = name
        self.address = address
        self.machine = f"cpq-{environment.name}-{name}"
        self.path = environment.hosts_directory / name
        self.root = self.path / "root"
        self.cgroup = Cgroup(self.machine)

    def create(self) -> None:
        """Make the host's folder: its layer, its ssh identity and a record of its image."""
        new = self.path.with_name(f".{self.name}.new")
        remove_tree(new)
        for folder in ("upper", "work", "root"):
            (new / folder).mkdir(parents=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(new / "ssh_host_ed25519_key"))
        record = {"image": str(self.environment.image.root), "machine_id": uuid.uuid4().hex}
        write(new / "host.json", json.dumps(record) + "\n")
        new.rename(self.path)

    def record(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads((self.path / "host.json").read_text())
        except (OSError, ValueError) as error:
            raise HostsError(
                f"host {self.name}: {self.path}/host.json cannot be read ({error}); rebuild the host (make rebuild)"
            ) from None
        return found

    def exists(self) -> bool:
        return self.path.exists()

    def is_running(self) -> bool:
        return self.cgroup.supervisor() is not None

    def reconnect(self) -> None:
        """Plug the host into the bridge that was made anew: our end is the one that its own end names."""
        supervisor = self.cgroup.supervisor()
        inside = next(process for process in self.cgroup.processes() if _parent(process) == supervisor)
        shown = run("nsenter", f"--net=/proc/{inside}/ns/net", "ip", "-json", "link", "show", "host0")
        index = int(json.loads(shown)[0]["link_index"])
        ours = next(
            link["ifname"] for link in json.loads(run("ip", "-json", "link", "show")) if link["ifindex"] == index
        )
        run("ip", "link", "set", ours, "master", self.environment.bridge, "up")

    def files(self) -> dict[str, tuple[str, int]]:
        """Return what the host must have to be reached and to be itself: path, content, mode."""
        environment = self.environment
        network = environment.network
        address = f"{self.address}/{network.prefixlen}"
        key = environment.public_key()
        gateway = "" if environment.namespace else f"Gateway={environment.gateway}\n"
        return {
            "etc/hostname": (f"{self.name}\n", 0o644),
            "etc/hosts": (environment.names(), 0o644),
            "etc/machine-id": (f"{self.record()['machine_id']}\n", 0o444),
            "etc/resolv.conf": (environment.name_service(), 0o644),
            "etc/ssh/ssh_host_ed25519_key": ((self.path / "ssh_host_ed25519_key").read_text(), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": ((self.path / "ssh_host_ed25519_key.pub").read_text(), 0o644),
            "etc/systemd/network/10-host0.network": (
                f"[Match]\nName=host0\n\n[Network]\nAddress={address}\n{gateway}LinkLocalAddressing=no\n",
                0o644,
            ),
            "root/.ssh/authorized_keys": (key, 0o600),
            **({f"home/{login}/.ssh/authorized_keys": (key, 0o644)} if (login := environment.login) else {}),
        }

    # A running host reads these only when it boots.
    BOOT_FILES = (
        "etc/hostname",
        "etc/machine-id",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/systemd/network/10-host0.network",
    )

    def drifted_files(self) -> list[str]:
        def differs(path: str, content: str, mode: int) -> bool:
            found = self.root / path
            try:
                return found.is_symlink() or found.read_text() != content or found.stat().st_mode & 0o7777 != mode
            except OSError:
                return True

        return [path for path, (content, mode) in self.files().items() if differs(path, content, mode)]

    def write_files(self, paths: list[str]) -> None:
        files = self.files()
        for path in paths:
            write(self.root / path, *files[path])

    def mount(self) -> None:
        image = Path(self.record()["image"])
        if not (image / "usr/lib/systemd/systemd").exists():
            raise HostsError(f"host {self.name}: its image {image} is gone or damaged; rebuild the host (make rebuild)")
        options = f"lowerdir={image},upperdir={self.path / 'upper'},workdir={self.path / 'work'}"
        run("mount", "-t", "overlay", "-o", options, f"cpq-{self.environment.name}", str(self.root))

    def make_login(self) -> None:
        """Make the user of releases, who becomes root as on a machine that somebody else set up."""
        login = self.environment.login
        if not login or (self.root / "home" / login).exists():
            return
        run("chroot", str(self.root), "useradd", "--create-home", "--shell", "/bin/bash", login)
        write(self.root / "etc/sudoers.d" / login, f"{login} ALL=(ALL) NOPASSWD: ALL\n", 0o440)

    def start(self) -> None:
        """Clear what a dead run left, mount, configure and boot; the caller waits for ssh."""
        self.clear()
        self.mount()
        self.make_login()
        self.write_files(self.drifted_files())
        self.cgroup.create()
        command = [
            "systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", f"--machine={self.machine}", f"--hostname={self.name}",
            # Without systemd as PID 1 on the control machine there is nobody to register with.
            "--register=no", "--keep-unit",
            f"--network-bridge={self.environment.bridge}", "--resolv-conf=off", "--link-journal=no", "--timezone=off",
        ]  # fmt: skip
        with (self.path / "console.log").open("w") as console:
            subprocess.Popen(
                ["/bin/sh", "-c", SUPERVISE, self.machine, *command],
                env={**os.environ, "CONTROL_GROUPS": " ".join(str(group) for group in self.cgroup.all)},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                preexec_fn=self.cgroup.join,  # noqa: PLW1509 - a module has one thread
            )

    def wait(self, deadline: float) -> None:
        """Wait until sshd greets; a host whose supervisor ended meanwhile will not."""
        while not self.answers():
            if not self.is_running() and not self.answers():
                raise HostsError(f"host {self.name} stopped while it booted: {self.last_words()}")
            if time.monotonic() > deadline:
                raise HostsError(
                    f"host {self.name} ({self.address}) is unreachable: nothing answers on port 22; "
                    f"its console is {self.path}/console.log; rebuild it if that does not help (make rebuild)"
                )
            time.sleep(0.05)

    def unreachable(self) -> str:
        """Say that the machine runs, that it cannot be reached, and what a person can do."""
        return (
            f"host {self.name} ({self.address}) is unreachable: its machine runs and nothing answers on port 22; "
            f"its console is {self.path}/console.log; restart it "
            f'(make hosts ENV={self.environment.name} EXTRA="-e nspawn_host_restart=true") '
            f"or make it anew, its disk included (make rebuild ENV={self.environment.name})"
        )

    def answers(self) -> bool:
        try:
            with socket.create_connection((str(self.address), 22), timeout=1) as connection:
                connection.settimeout(2)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = [
                line.strip()
                for line in (self.path / "console.log").read_text(errors="replace").splitlines()
                if line.strip()
            ]
            return " / ".join(lines[-2:])
        return "no console output"

    def ask_to_stop(self) -> None:
        """Press the power button; a second press would cut the host off at once."""
        supervisor = self.cgroup.supervisor()
        if supervisor is not None:
            self.cgroup.thaw()
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGTERM)

    def await_stop(self) -> None:
        """Wait for a clean end; whoever ignores the button is cut off."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.cgroup.supervisor() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.clear()

    def stop(self) -> None:
        self.ask_to_stop()
        self.await_stop()

    def clear(self) -> None:
        """Remove what a host leaves behind when it is not running: processes, control groups, its cable, mounts, nspawn's own marks."""
        run_files = Path("/run/systemd/nspawn")
        marks = [run_files / "propagate" / self.machine, run_files / "unix-export" / self.machine]
        with contextlib.suppress(OSError):
            found = self.root.stat()
            marks.append(run_files / "locks" / f"inode-{found.st_dev}:{found.st_ino}")
        self.cgroup.remove()
        self.unplug()
        for point in mounts_below(self.path):
            run("umount", "--lazy", point)
        for mark in marks:
            if mark.is_dir():
                shutil.rmtree(mark)
            else:
                mark.unlink(missing_ok=True)

    def unplug(self) -> None:
        """Remove our end of the host's cable, and the other with it.

        It outlives a host that was killed until the last of that host's connections has given up, and no host of this name
        starts before.
        """
        cable = f"vb-{self.machine}"
        for link in json.loads(run("ip", "-json", "link", "show", "type", "veth")):
            # A name longer than the kernel's fifteen characters is an alternative one.
            if cable in (link["ifname"], *link.get("altnames", ())):
                # It may go by itself just now.
                with contextlib.suppress(HostsError):
                    run("ip", "link", "delete", link["ifname"])


class Environment:
    """All hosts of one inventory and what they share: image, bridge, firewall table, keys."""

    def __init__(self, parameters: dict[str, Any], *, check_mode: bool) -> None:
        self.parameters = parameters
        self.check_mode = check_mode
        self.name: str = parameters["environment"]
        self.directory = Path(parameters["state_directory"])
        self.hosts_directory = self.directory / "hosts"
        self.network = ipaddress.ip_network(parameters["subnet"])
        self.gateway = next(self.network.hosts())
        self.bridge = nspawn_preflight.bridge_name(self.name)
        self.table = f"cpq_{self.name}"
        self.image = Image(parameters)
        self.control = self.directory / "control"
        self.namespace = Namespace(self.bridge, self.control) if parameters["namespace"] else None
        self.login: str = parameters["login"]
        self.hosts = [Host(self, name, address) for name, address in sorted(parameters["hosts"].items())]
        self.actions: list[str] = []
        self.seconds: dict[str, float] = {}
        self.grace: float | None = None
        self.new_bridge = False

    # -- what is done, and in check mode only said

    def act(self, text: str, *steps: Callable[[], object]) -> None:
        self.actions.append(text)
        if not self.check_mode:
            for step in steps:
                step()

    def names(self) -> str:
        rows = [(host.address, host.name) for host in self.hosts]
        rows += sorted((str(address), name) for name, address in self.parameters["aliases"].items())
        listed = "".join(f"{address} {name}\n" for address, name in rows)
        return f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{listed}"

    def name_service(self) -> str:
        return (
            "# no name service: nothing outside can be reached\n"
            if self.namespace
            else Path("/etc/resolv.conf").read_text()
        )

    def public_key(self) -> str:
        return (self.directory / "ssh_key.pub").read_text()

    def present(self) -> None:
        if not self.check_mode:
            sweep(self.hosts_directory)
            sweep(self.image.images)
        # Before the namespace, from which no package can be fetched.
        if not self.image.exists():
            self.act(f"build the image {self.image.name}", self.image.build)
        self.enter_namespace()
        self.refuse_unreachable()
        self.tune()
        self.connect()
        if not (self.directory / "ssh_key").exists():
            self.act("make the ssh key", self.make_key)
        for stray in self.strays():
            self.act(
                f"remove {stray.name}, which the inventory no longer names",
                stray.stop,
                partial(remove_tree, stray.path),
            )
        started = [host for host in self.hosts if self.bring_up(host)]
        self.write_client_files()
        if started and not self.check_mode:
            # A master connection to a machine that was replaced would hang until its keep-alive gives up.
            self.close_connections()
            begin = time.monotonic()
            for host in started:
                host.wait(begin + self.parameters["boot_timeout"])
                self.seconds[host.name] = round(time.monotonic() - begin, 2)

    def enter_namespace(self) -> None:
        """Do all that follows in the environment's own network, where it has one."""
        namespace = self.namespace
        if namespace is None:
            return
        if not namespace.exists():
            self.act(f"make the network namespace {namespace.name}", namespace.create)
        if not namespace.files.is_symlink() or namespace.files.readlink() != self.control:
            self.act(f"put {namespace.files} in place", namespace.link_files)
        if namespace.exists():
            namespace.enter()

    def refuse_unreachable(self) -> None:
        """Stop before the first change on any host when one runs and does not answer, and nothing here explains why.

        Its machine may be at work, and only a person can tell whether a restart or a fresh disk is the lesser harm. What this
        run repairs by itself is no reason to stop: a bridge that is gone, a frozen machine, files that it reads at boot.
        """
        if self.parameters["rebuild"] or self.parameters["restart"] or not self._is_bridge_whole():
            return
        silent = [host for host in self.hosts if self._is_silent(host)]
        if silent:
            raise HostsError("; ".join(host.unreachable() for host in silent))

    def _is_bridge_whole(self) -> bool:
        links = {link["ifname"]: link for link in json.loads(run("ip", "-json", "address", "show"))}
        bridge = links.get(self.bridge, {"flags": [], "addr_info": []})
        return "UP" in bridge["flags"] and str(self.gateway) in {entry["local"] for entry in bridge["addr_info"]}

    def _is_silent(self, host: Host) -> bool:
        if not host.exists() or not (host.is_running() or self._boots_again(host)) or host.cgroup.is_frozen():
            return False
        if host.answers() or any(path in Host.BOOT_FILES for path in host.drifted_files()):
            return False
        return not self._answers_soon(host)

    def bring_up(self, host: Host) -> bool:
        """Make one host what it should be; tell whether it was started."""
        if host.exists() and self.parameters["rebuild"]:
            self.act(f"rebuild {host.name}", host.stop, lambda: remove_tree(host.path), host.create, host.start)
        elif not host.exists():
            self.act(f"create {host.name}", host.clear, host.create, host.start)
        elif not host.is_running() and not self._boots_again(host):
            reason = "its supervisor was killed" if host.cgroup.processes() else "it was not running"
            self.act(f"start {host.name}: {reason}", host.start)
        else:
            if self.new_bridge:
                self.act(f"reconnect {host.name}", host.reconnect)
            if host.cgroup.is_frozen():
                self.act(f"thaw {host.name}", host.cgroup.thaw)
            drifted = host.drifted_files()
            if any(path in Host.BOOT_FILES for path in drifted):
                self.act(f"restart {host.name}: {', '.join(drifted)} differ", host.stop, host.start)
            elif not self.check_mode and not host.answers() and not self._answers_soon(host):
                if not self.parameters["restart"]:
                    raise HostsError(host.unreachable())
                self.act(f"restart {host.name}: nothing answers on port 22", host.stop, host.start)
            else:
                if drifted:
                    self.act(f"write {', '.join(drifted)} on {host.name}", lambda: host.write_files(drifted))
                return False
        return True

    def _boots_again(self, host: Host) -> bool:
        """Tell whether it is between two boots: its processes are gone, and the loop that boots it again is there."""
        deadline = time.monotonic() + 2
        while host.cgroup.is_rebooting() and time.monotonic() < deadline:
            time.sleep(0.05)
        return host.is_running()

    def _answers_soon(self, host: Host) -> bool:
        # It may be in the middle of a boot. All hosts share one period of grace.
        self.grace = self.grace or time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(HostsError):
            host.wait(self.grace)
            return True
        return False

    def strays(self) -> list[Host]:
        """List hosts on disk or alive that the inventory does not name."""
        named = {host.name for host in self.hosts}
        found = {path.name for path in self.hosts_directory.glob("[!.]*")} if self.hosts_directory.exists() else set()
        prefix = f"cpq-{self.name}-"
        for root in {group.parent for group in Cgroup("any").all}:
            found |= {path.name.removeprefix(prefix) for path in root.glob(f"{prefix}*")}
        return [Host(self, name, None) for name in sorted(found - named)]

    def tune(self) -> None:
        """Let the hosts' packets through and allow more inotify instances than a few hosts use up; down puts the old values back."""
        for name, wanted in SETTINGS.items():
            if self.namespace and name.startswith("net/"):
                continue
            path = Path("/proc/sys") / name
            if int(path.read_text()) < wanted:
                self.act(
                    f"set {name} to {wanted}",
                    partial(self._tune, name, path, wanted),
                )

    def _tune(self, name: str, path: Path, wanted: int) -> None:
        saved = _saved_settings()
        saved.setdefault(name, int(path.read_text()))
        write(SAVED_SETTINGS, json.dumps(saved) + "\n")
        path.write_text(f"{wanted}\n")

    def connect(self) -> None:
        address = f"{self.gateway}/{self.network.prefixlen}"
        links = {link["ifname"]: link for link in json.loads(run("ip", "-json", "address", "show"))}
        bridge = links.get(self.bridge)
        if bridge is None:
            self.new_bridge = True
            self.act(f"make the bridge {self.bridge}", lambda: run("ip", "link", "add", self.bridge, "type", "bridge"))
        has = {
            f"{entry['local']}/{entry['prefixlen']}"
            for entry in (bridge or {}).get("addr_info", [])
            if entry["family"] == "inet"
        }
        for other in sorted(has - {address}):
            self.act(
                f"take {other} off {self.bridge}",
                partial(run, "ip", "address", "del", other, "dev", self.bridge),
            )
        if address not in has:
            self.act(
                f"give {self.bridge} the address {address}",
                lambda: run("ip", "address", "add", address, "dev", self.bridge),
            )
        if bridge is None or "UP" not in bridge["flags"]:
            self.act(f"take {self.bridge} up", lambda: run("ip", "link", "set", self.bridge, "up"))
        wanted = self.firewall()
        # A namespace has nobody to be kept from, and no way out to translate addresses for.
        if not self.namespace and self.table_text() != wanted:
            replace = f"table ip {self.table}\ndelete table ip {self.table}\n{wanted}"
            self.act(f"write the firewall table {self.table}", lambda: run("nft", "-f", "-", data=replace))

    def firewall(self) -> str:
        """Return the table as nft prints it, so that a comparison of text finds every drift."""
        return (
            f"table ip {self.table} {{\n"
            "\tchain outbound {\n"
            "\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
            f"\t\tip saddr {self.network} ip daddr != {self.network} masquerade\n"
            "\t}\n\n"
            "\tchain between_environments {\n"
            "\t\ttype filter hook forward priority filter; policy accept;\n"
            f'\t\tiifname "{self.bridge}" oifname != "{self.bridge}" oifname "cpq-*" drop\n'
            "\t}\n}\n"
        )

    def table_text(self) -> str:
        try:
            return run("nft", "list", "table", "ip", self.table)
        except HostsError:
            return ""

    def make_key(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".ssh_key.{os.getpid()}"
        for leftover in self.directory.glob(".ssh_key.*"):
            leftover.unlink()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"cpq-oms-{self.name}", "-f", str(temporary))
        # The private key last: its name being there means that both are.
        temporary.with_name(f"{temporary.name}.pub").rename(self.directory / "ssh_key.pub")
        temporary.rename(self.directory / "ssh_key")

    def write_client_files(self) -> None:
        """Write what ssh needs to reach the hosts by name or address, and to refuse anybody who only claims to be one."""
        if self.check_mode and not all(host.exists() for host in self.hosts):
            self.actions.append("write ssh_config and known_hosts")
            return
        known = "".join(
            f"{host.address},{host.name} {' '.join((host.path / 'ssh_host_ed25519_key.pub').read_text().split()[:2])}\n"
            for host in self.hosts
        )
        stanzas = "".join(f"Host {host.name} {host.address}\n  HostName {host.address}\n\n" for host in self.hosts)
        config = (
            f"{stanzas}Host *\n  User root\n  IdentityFile {self.directory}/ssh_key\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.directory}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
            f"  ControlMaster auto\n  ControlPersist 60s\n  ControlPath {self.directory}/connections/%C\n"
        )
        for name, content in (("known_hosts", known), ("ssh_config", config)):
            path = self.directory / name
            if not path.exists() or path.read_text() != content:
                self.act(f"write {name}", partial(write, path, content))
        if self.namespace:
            self.write_control_files(known)
        # ssh does not make the folder of its control sockets.
        if not (self.directory / "connections").exists():
            self.act("make the folder connections", lambda: (self.directory / "connections").mkdir(mode=0o700))

    def write_control_files(self, known: str) -> None:
        """Write what a program in the namespace finds in /etc: names, keys, and the folder of what the environment owns."""
        ssh = self.control / "ssh"
        config = (
            f"Host *\n  IdentityFile {self.directory}/ssh_key\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
            "  GlobalKnownHostsFile /etc/ssh/ssh_known_hosts\n  UserKnownHostsFile /dev/null\n"
        )
        for path, content in (
            (ssh / "ssh_config", config),
            (ssh / "ssh_known_hosts", known),
            (self.control / "hosts", self.names()),
            (self.control / "resolv.conf", self.name_service()),
        ):
            if not path.exists() or path.read_text() != content:
                self.act(f"write {path.relative_to(self.directory)}", partial(write, path, content))
        # Mounted over a folder that must be there.
        for folder in (self.control / "cpq-oms" / self.name / "connections", OWNED):
            if not folder.exists():
                self.act(f"make {folder}", partial(folder.mkdir, mode=0o700, parents=True))

    def close_connections(self) -> None:
        connections = self.directory / "connections"
        for control in connections.glob("*") if connections.exists() else ():
            leave = ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "-q", "any"]
            # A master that does not answer ends by itself when its host does.
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(leave, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=5)
            control.unlink(missing_ok=True)

    def absent(self) -> None:
        """Take everything down that present made; what is not there needs no mention."""
        if self.namespace and self.namespace.exists():
            self.namespace.enter()
        everything = [*self.hosts, *self.strays()]
        alive = [host for host in everything if host.cgroup.exists()]
        # All are asked first and waited for afterwards, so that ten hosts take no longer than one.
        for host in alive:
            self.act(f"stop {host.name}", host.ask_to_stop)
        if not self.check_mode:
            for host in everything:
                host.await_stop()
        self.disconnect()
        self.remove_directory()

    def disconnect(self) -> None:
        links = {link["ifname"] for link in json.loads(run("ip", "-json", "link", "show"))}
        if self.bridge in links:
            self.act(f"remove the bridge {self.bridge}", lambda: run("ip", "link", "delete", self.bridge))
        if self.table_text():
            remove = ("nft", "delete", "table", "ip", self.table)
            self.act(f"remove the firewall table {self.table}", lambda: run(*remove))
        if self.namespace and (self.namespace.exists() or self.namespace.files.is_symlink()):
            self.act(f"remove the network namespace {self.namespace.name}", self.namespace.remove)
        if any(link.startswith("cpq-") for link in links - {self.bridge}) or self.others():
            return
        # The last environment on this machine puts back what the first one changed.
        for name, value in _saved_settings().items():
            path = Path("/proc/sys") / name
            self.act(f"set {name} back to {value}", partial(path.write_text, f"{value}\n"))
        if not self.check_mode:
            SAVED_SETTINGS.unlink(missing_ok=True)

    def others(self) -> bool:
        """Tell whether hosts of another environment are left."""
        own = f"cpq-{self.name}-"
        groups = (path.name for root in {group.parent for group in Cgroup("any").all} for path in root.glob("cpq-*"))
        return any(not name.startswith(own) for name in groups)

    def remove_directory(self) -> None:
        if not self.directory.exists():
            return
        kept = {"secrets"} if self.parameters["keep_secrets"] else set()
        doomed = [path for path in self.directory.iterdir() if path.name not in kept]
        if kept and not doomed:
            return
        self.act(f"remove {self.directory}", self.close_connections, lambda: [self._remove(path) for path in doomed])
        if not kept and not self.check_mode:
            self.directory.rmdir()

    @staticmethod
    def _remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()


# Machine-wide and gone with the next boot, like the values it remembers.
SAVED_SETTINGS = Path("/run/cpq-oms/settings.json")


def _saved_settings() -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(SAVED_SETTINGS.read_text())
    except (OSError, ValueError):
        return {}
    return found


def problems(parameters: dict[str, Any]) -> list[str]:
    """Judge inventory and machine before the first change."""
    found = nspawn_preflight.check_root() or [
        *nspawn_preflight.check_plan(parameters["environment"], parameters["subnet"], parameters["hosts"]),
        *nspawn_preflight.check_tools(),
    ]
    if found or parameters["state"] == "absent":
        return found
    cache = Path(parameters["cache_directory"])
    image = Image(parameters)
    return [
        *nspawn_preflight.check_kernel(),
        *(
            []
            if parameters["namespace"]
            else nspawn_preflight.check_subnet_free(
                parameters["subnet"], nspawn_preflight.bridge_name(parameters["environment"])
            )
        ),
        *(
            nspawn_preflight.check_image(image.path)
            if image.exists()
            else nspawn_preflight.check_disk(cache, 3, "an image and its packages")
        ),
        *nspawn_preflight.check_disk(Path(parameters["state_directory"]), 1, "the hosts"),
    ]


def main() -> None:
    """Read the parameters, judge them, do the work; every failure is one line."""
    options: dict[str, dict[str, Any]] = {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "environment": {"type": "str", "required": True},
        "state_directory": {"type": "path", "required": True},
        "cache_directory": {"type": "path", "required": True},
        "subnet": {"type": "str", "required": True},
        "hosts": {"type": "dict", "required": True},
        "release": {"type": "str", "required": True},
        "packages": {"type": "list", "elements": "str", "required": True},
        "disabled_units": {"type": "list", "elements": "str", "required": True},
        "namespace": {"type": "bool", "default": False},
        "aliases": {"type": "dict", "default": {}},
        "login": {"type": "str", "default": ""},
        "rebuild": {"type": "bool", "default": False},
        "restart": {"type": "bool", "default": False},
        "keep_secrets": {"type": "bool", "default": False},
        "boot_timeout": {"type": "int", "default": 60},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    parameters = module.params
    found = problems(parameters)
    if found:
        module.fail_json(msg="; ".join(found), problems=found)
    environment = Environment(parameters, check_mode=module.check_mode)
    try:
        with (
            contextlib.nullcontext()
            if module.check_mode
            else locked(Path(f"/run/lock/cpq-oms-hosts-{environment.name}"), "another run on these hosts")
        ):
            environment.absent() if parameters["state"] == "absent" else environment.present()
    except (HostsError, OSError) as error:
        module.fail_json(msg=str(error), actions=environment.actions)
    actions = environment.actions
    result: dict[str, Any] = {
        "changed": bool(actions),
        "actions": actions,
        "diff": {"before": "", "after": "".join(f"{line}\n" for line in actions)},
    }
    if parameters["state"] == "present":
        result["image"] = environment.image.name
        result["hosts"] = {
            host.name: {"address": host.address, "seconds": environment.seconds.get(host.name, 0)}
            for host in environment.hosts
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
