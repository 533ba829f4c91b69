"""Set-up from a bare Debian machine to a running environment; every target of the Makefile goes through here.

Needs nothing but Debian's python3. It first looks at everything that could go wrong later and stops before the first
change with one line for each finding. Then it installs what is missing, step by step, and hands over to Ansible.

Each step leaves a stamp named by what it was made from, and is made under a temporary name or cleared when it is found
half done, so the same command resumes after Ctrl-C or SIGKILL at any point. One run at a time per environment: the lock
is the kernel's and ends with its process.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import difflib
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / ".config/locks/control.txt"
# What pip and uv write beside each package they install, below the virtual environment.
PACKAGES = "lib/python3*/site-packages/*.dist-info"
INVENTORIES = (ROOT / "inventories", ROOT / "tests/support/inventories")

# What the control machine itself needs. The hosts' packages are in the role nspawn_host.
BASE_PACKAGES = ("make", "openssh-client", "python3-venv")
HOST_PACKAGES = (
    "iproute2",
    "maven",
    "mmdebstrap",
    "nftables",
    "openjdk-17-jdk-headless",
    "rsync",
    "systemd-container",
)
# What a stage of the tests needs besides: a real browser for the console's pages.
STAGE_PACKAGES = {"topology": ("chromium", "chromium-driver")}

# There while packages are being installed: a run that finds it finishes what an earlier one was killed in.
UNFINISHED_PACKAGES = Path("/var/cache/cpq-oms/packages.unfinished")
# Who holds one of these is at work on packages; the second pair is apt's own.
PACKAGE_LOCKS = tuple(
    Path("/var", name)
    for name in ("lib/dpkg/lock-frontend", "lib/dpkg/lock", "lib/apt/lists/lock", "cache/apt/archives/lock")
)
PACKAGE_LOCK_SECONDS = 300
# How many hosts of a rehearsal work on a task at once; 27 hosts on two cores take half of the time that they take with all at once.
HOSTS_PER_CORE = 3

# Where rehearsals of environments keep their hosts; what an environment itself owns is elsewhere.
REHEARSALS = Path("/var/lib/cpq-oms")

JARS = "playbooks/jars.yml"
SECRETS = "playbooks/secrets.yml"
SIMULATOR = "playbooks/simulator.yml"
REHEARSAL = "playbooks/rehearsal.yml"
EVIDENCE = "playbooks/rehearsal_evidence.yml"
STAND_IN = "playbooks/rehearsal/stand_in.yml"
HOSTS = "playbooks/hosts.yml"
DOWN = "playbooks/hosts_down.yml"
SITE = "playbooks/site.yml"
BUNDLE = "playbooks/bundle.yml"
RELEASE = "release.yml"
DRIFT = "playbooks/drift.yml"
READINESS = "playbooks/readiness.yml"
CONTRACT = "playbooks/contract.yml"
LOAD = "playbooks/load.yml"
EXIT_DRIFT = 3
# Reports and what was last seen of each environment, which another one can be compared with when that one is not up.
RECORDINGS = ROOT / "dist/drift"


class SetUpError(Exception):
    """One line for the person at the keyboard: what is wrong with what, and the remedy."""


@dataclass(frozen=True)
class Environment:
    """What the set-up must know of an inventory before Ansible is there to read it."""

    name: str
    inventory: Path
    variables: dict[str, str]

    @property
    def state(self) -> Path:
        """Return the folder of the environment's hosts, keys and secrets."""
        if self.is_rehearsed:
            return REHEARSALS / self.name
        return Path(self.variables["cpq_state_dir"])

    @property
    def is_rehearsed(self) -> bool:
        """Tell whether its machines exist elsewhere, so that those made here live in a network of their own."""
        return self.variables.get("cpq_machines") == "existing"

    @property
    def has_simulator(self) -> bool:
        """Tell whether its own bundle holds the simulator, as release.yml of the inventory says."""
        path = self.inventory / "group_vars/all/release.yml"
        return path.is_file() and "release_simulator: true" in path.read_text()

    @property
    def inside(self) -> tuple[str, ...]:
        """Return what goes before a command that is to see the environment's hosts and, in a rehearsal, nothing else."""
        return ("ip", "netns", "exec", f"cpq-{self.name}") if self.is_rehearsed else ()

    @property
    def ansible(self) -> dict[str, str]:
        """Return what Ansible is told of hosts that share one machine's cores: the more of them work at once, the longer all of them take."""
        return {"ANSIBLE_FORKS": str(HOSTS_PER_CORE * (os.cpu_count() or 1))} if self.is_rehearsed else {}

    @property
    def cache(self) -> Path:
        """Return the folder of images, jars and wheels, shared by all environments."""
        return Path(self.variables["cpq_cache_dir"])


@dataclass
class Progress:
    """Numbered steps with their times, and the table of them at the end."""

    total: int
    times: list[tuple[str, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, run it, say how long it took; a failing step appears in the table too."""
        number = len(self.times) + 1
        print(f"[{number}/{self.total}] {title} ...", flush=True)
        begin = time.monotonic()
        try:
            yield
        finally:
            self.times.append((title, time.monotonic() - begin))
            print(f"[{number}/{self.total}] {title}: {self.times[-1][1]:.1f} s", flush=True)

    def table(self, played: Sequence[tuple[str, float]] = ()) -> str:
        """Return all step times, Ansible's plays in place of the steps that ran them."""
        rows = [*(row for row in self.times if not (played and row[0].startswith("Playbooks "))), *played]
        width = max(len(title) for title, _ in rows)
        lines = [f"  {title:<{width}} {seconds:8.1f} s" for title, seconds in rows]
        total = sum(seconds for _, seconds in self.times)
        return "\n".join(["", "Steps and times", *lines, f"  {'in all':<{width}} {total:8.1f} s"])


# -- checks: nothing below this line and above the next heading changes anything


def environments() -> dict[str, Path]:
    """Find every inventory: its machines are made here, or can be rehearsed here."""
    found = {}
    for folder in INVENTORIES:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            settings = path / "group_vars/all/environment.yml"
            if settings.is_file() and re.search(
                r"^cpq_machines: (nspawn|existing)\b", settings.read_text(), re.MULTILINE
            ):
                found[path.name] = path
    return found


def find_environment(name: str) -> Environment:
    """Read the few variables that the set-up needs; fail by the name of a missing one.

    A name is looked up among the repository's inventories; a path is taken as it is, for inventories kept elsewhere.
    """
    inventory = Path(name).resolve() if "/" in name else environments().get(name)
    if inventory is None:
        raise SetUpError(f"ENV '{name}' is unknown; known: {', '.join(sorted(environments()))}")
    path = inventory / "group_vars/all/environment.yml"
    if not path.is_file():
        raise SetUpError(
            f"ENV '{name}' is no inventory: {path} is missing; give its folder or one of {', '.join(sorted(environments()))}"
        )
    variables = dict(re.findall(r"^([a-z_]+):\s*[\"']?([^\"'#\n]*?)[\"']?\s*(?:#.*)?$", path.read_text(), re.MULTILINE))
    for key in ("cpq_env", "cpq_subnet", "cpq_state_dir", "cpq_cache_dir"):
        if not variables.get(key):
            raise SetUpError(f"{_shown(path)}: {key} is missing; {_remedy(_nearest(key, variables))}")
    for key, value in variables.items():
        variables[key] = re.sub(
            r"\{\{\s*(\w+)\s*\}\}", lambda found: variables.get(found.group(1), found.group(0)), value
        )
    return Environment(variables["cpq_env"], inventory, variables)


def check_variables(environment: Environment, *, services: bool) -> list[str]:
    """Hold the inventory to inventories/schema.yml: a misspelt name stops here and not in the middle of a release.

    The judge is the one that every playbook asks too, so it needs the virtual environment.
    """
    judge = ROOT / "playbooks/action_plugins/inventory_preflight.py"
    words = [str(VENV / "bin/python"), str(judge), str(environment.inventory), *([] if services else ["--hosts-alone"])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout or done.stderr).strip().splitlines()


def _nearest(name: str, candidates: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.75)), None)


def _remedy(meant: str | None) -> str:
    return f"is {meant} meant?" if meant else "add it or correct the name"


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def check_debian() -> list[str]:
    """Packages come by apt; without it nothing below could be installed."""
    if shutil.which("apt-get") and Path("/etc/debian_version").exists():
        return []
    return ["no Debian: the set-up installs Debian packages by apt-get; run it on Debian 12 or later"]


def check_python() -> list[str]:
    """The locked requirements start at Python 3.11."""
    if sys.version_info >= (3, 11):  # noqa: UP036 - this file must be able to say so on an older one
        return []
    return [
        f"Python {sys.version.split()[0]} at {sys.executable}: 3.11 or later is needed; call it with /usr/bin/python3"
    ]


def check_machine(environment: Environment, *, hosts: bool) -> list[str]:
    """Find whatever would stop the set-up later: each finding is the thing and the remedy, in one line.

    Without hosts to bring up only the basics count: what is broken must not keep anybody from taking it down.
    """
    judge = preflight()
    problems: list[str] = [*judge.check_root(), *check_debian(), *check_python()]
    if problems or not hosts:
        return problems
    bridge = judge.bridge_name(environment.variables["cpq_env"])
    return [
        *judge.check_kernel(),
        *(
            judge.check_subnet_free(environment.variables["cpq_subnet"], bridge)
            if shutil.which("ip") and not environment.is_rehearsed
            else []
        ),
        *judge.check_disk(environment.cache, 0.5 if list(environment.cache.glob("images/[!.]*")) else 4, "the caches"),
        *judge.check_disk(environment.state, 1, "the hosts"),
        *judge.check_disk(ROOT, 0.2 if venv_is_current() else 1, "the virtual environment"),
        *judge.check_images(environment.cache),
        *check_jars(environment.cache),
    ]


def check_jars(cache: Path) -> list[str]:
    """Hash the finished jar sets: one that is damaged would stop the release on a host, after its first changes."""
    problems = []
    for folder in sorted(cache.glob("jars/[!.]*")):
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            with tarfile.open(folder / "jars.tar", "r:") as archive:
                found = {member.name: _sha256(archive.extractfile(member)) for member in archive}
            odd = sorted(name for name in manifest.keys() | found.keys() if manifest.get(name) != found.get(name))
            trouble = f"{odd[0]} is not what its manifest says" if odd else None
        except (OSError, ValueError, AttributeError, tarfile.TarError) as error:
            trouble = f"it cannot be read ({error})"
        if trouble:
            problems.append(f"broken cache: {folder}: {trouble}; remove it (rm -r {folder}) and run again")
    return problems


def _sha256(stream: IO[bytes] | None) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20) if stream else b"":
        digest.update(block)
    return digest.hexdigest()


def preflight() -> ModuleType:
    """Load the checks that the role nspawn_host makes as well, so that there is one wording of them."""
    spec = importlib.util.spec_from_file_location(
        "nspawn_preflight", ROOT / "roles/nspawn_host/module_utils/nspawn_preflight.py"
    )
    if spec is None or spec.loader is None:
        raise SetUpError(
            "roles/nspawn_host/module_utils/nspawn_preflight.py is missing; restore it (git checkout roles)"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- steps: each looks first whether there is anything to do


def run(command: Sequence[str], *, environment: dict[str, str] | None = None, log: Path | None = None) -> None:
    """Run a program with its output indented below the step; its last lines are the reason when it fails."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no threads here
    )
    last: list[str] = []
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("w")) if log else None
        for line in process.stdout or ():
            last = [*last[-4:], line.strip()]
            if output is None:
                print(f"      {line}", end="", flush=True)
            else:
                output.write(line)
    if process.wait():
        raise SetUpError(
            f"{Path(command[0]).name} {command[1] if len(command) > 1 else ''} ended with {process.returncode}: {' / '.join(last)}"
        )


def _end_with_parent() -> None:
    # Killed alone, this process would leave apt or Ansible at work behind the back of the run that resumes.
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Ask dpkg which packages are not fully installed."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *packages],
        check=False,
        capture_output=True,
        text=True,
    )
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.split()[1:] == ["ii"]}
    return [package for package in packages if package not in installed]


def install_packages(packages: Sequence[str]) -> None:
    """Install what is missing; an installation that was killed is finished first."""
    missing = missing_packages(packages)
    if not missing and not (UNFINISHED_PACKAGES.exists() and os.geteuid() == 0):
        return
    if os.geteuid() != 0:
        raise SetUpError(
            f"not root: Debian packages are missing ({' '.join(missing)}); run the same command as root once"
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    UNFINISHED_PACKAGES.parent.mkdir(parents=True, exist_ok=True)
    UNFINISHED_PACKAGES.touch()
    _await_package_manager()
    # A dpkg that was cut short refuses all other work until this is done; where nothing is half done it does nothing.
    run(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], environment=quiet)
    apt = ["apt-get", "-q", "-y", "-o", f"DPkg::Lock::Timeout={PACKAGE_LOCK_SECONDS}", "-o", "Dpkg::Use-Pty=0"]
    apt += ["-o", "Acquire::Retries=3"]
    run([*apt, "update"], environment=quiet)
    # One that was killed while it was unpacked is taken for the newest version by apt, and refused by dpkg.
    if torn := _torn_packages():
        run([*apt, "install", "--reinstall", "--no-install-recommends", *torn], environment=quiet)
    run([*apt, "install", "--fix-broken", "--no-install-recommends", *missing], environment=quiet)
    if left := missing_packages(packages):
        raise SetUpError(f"apt-get ended well and yet these are not installed: {' '.join(left)}; see dpkg --audit")
    UNFINISHED_PACKAGES.unlink()


def _torn_packages() -> list[str]:
    """Ask dpkg which packages it wants to have installed again."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Eflag}\n"], check=True, capture_output=True, text=True
    )
    return [line.split()[0] for line in query.stdout.splitlines() if line.endswith(" reinstreq")]


def _await_package_manager() -> None:
    """Wait until nobody works on packages: a killed run's dpkg may go on for a while without it."""
    deadline = time.monotonic() + PACKAGE_LOCK_SECONDS
    for path in PACKAGE_LOCKS:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            while True:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise SetUpError(
                            f"somebody else installs packages ({path} is locked); wait for the end of it and run this again"
                        ) from None
                    time.sleep(0.1)


def venv_stamp() -> str:
    """Name what the virtual environment is made from."""
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {sys.version_info.major}.{sys.version_info.minor}\n"


def venv_is_current() -> bool:
    """Tell whether the virtual environment was finished from this very lock, and still is what it was then."""
    stamp = VENV / "cpq-oms.stamp"
    return (
        stamp.is_file()
        and stamp.read_text() == venv_stamp()
        and set(re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE)) <= _venv_packages()
        and venv_is_whole()
    )


def venv_is_whole() -> bool:
    """Tell whether its Python runs and every package in it has its files: a stamp outlives a damage."""
    try:
        subprocess.run([str(VENV / "bin/python"), "-c", "import pip"], check=True, capture_output=True)
        return all(_has_its_files(package) for package in VENV.glob(PACKAGES))
    except (OSError, subprocess.CalledProcessError):
        return False


def _venv_packages() -> set[str]:
    # A folder's name has _ where the lock has -.
    return {package.name.partition("-")[0].replace("_", "-").lower() for package in VENV.glob(PACKAGES)}


def _has_its_files(package: Path) -> bool:
    site = package.parent
    names = (line.rsplit(",", 2)[0].strip('"') for line in (package / "RECORD").read_text().splitlines())
    # Bytecode comes and goes. A Path for each of some thousand files would take twice the time.
    return all(os.path.exists(f"{site}/{name}") for name in names if not name.endswith(".pyc"))  # noqa: PTH110


def install_venv(cache: Path) -> None:
    """Make the virtual environment from hash-locked requirements: pip brings uv, uv the rest, several times faster."""
    if venv_is_current():
        return
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if venv_is_current():
            return
        unfinished = VENV / "cpq-oms.unfinished"
        if unfinished.exists() or not venv_is_whole():
            # What is missing of half an installation, or of a damaged one, is not known well enough to add it.
            _remove(VENV)
            VENV.mkdir()
            unfinished.touch()
            run([sys.executable, "-m", "venv", str(VENV)])
        unfinished.touch()
        (VENV / "cpq-oms.stamp").unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            installer = Path(folder, "uv.txt")
            installer.write_text(_locked_block("uv"))
            run(
                [
                    str(VENV / "bin/python"),
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--require-hashes",
                    "--no-deps",
                    "-r",
                    str(installer),
                ]
            )
        places = {"VIRTUAL_ENV": str(VENV), "UV_CACHE_DIR": str(cache / "uv"), "UV_COMPILE_BYTECODE": "1"}
        run([str(VENV / "bin/uv"), "pip", "sync", "--quiet", "--require-hashes", str(LOCK)], environment=places)
        temporary = VENV / "cpq-oms.stamp.new"
        temporary.write_text(venv_stamp())
        temporary.rename(VENV / "cpq-oms.stamp")
        unfinished.unlink()


def _remove(folder: Path) -> None:
    """Remove a folder into which orphans of a killed run may still write for a moment: they are on their way out."""
    for _ in range(120):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.25)
    raise SetUpError(f"{folder} cannot be removed: another process writes into it; end that process and run this again")


def _locked_block(package: str) -> str:
    found = re.search(rf"^{package}==(?:.*\\\n)*.*\n", LOCK.read_text(), re.MULTILINE)
    if found is None:
        raise SetUpError(f"{LOCK.relative_to(ROOT)} does not lock {package}; make the lock again (make lock)")
    return found.group(0)


@dataclass(frozen=True)
class Pass:
    """What Ansible is started for once: its playbooks, and what a rehearsal puts around them."""

    playbooks: tuple[str, ...]
    is_inside: bool = False
    has_stand_in: bool = False


def play(environment: Environment, one: Pass, extra: Sequence[str], times: Path) -> int:
    """Run playbooks in one Ansible process, so that start-up and inventory are paid for once."""
    inside = environment.inside if one.is_inside else ()
    # What is played in production as well is played with what production knows, and nothing else.
    is_own = environment.is_rehearsed and one.playbooks not in {(RELEASE,), (READINESS,)}
    command = [
        *inside,
        str(VENV / "bin/ansible-playbook"),
        *("-i", str(_shown(environment.inventory))),
        *(("-i", STAND_IN) if one.has_stand_in else ()),
        *one.playbooks,
        *(("-e", "cpq_rehearsal=true") if is_own else ()),
        *extra,
    ]
    variables = {
        **environment.ansible,
        **os.environ,
        "PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin",
        "ANSIBLE_STDOUT_CALLBACK": os.environ.get("ANSIBLE_STDOUT_CALLBACK", "steps"),
        "CPQ_STEP_TIMES": str(times),
    }
    if inside:
        # Keys that somebody's agent holds are for real machines.
        variables.pop("SSH_AUTH_SOCK", None)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no threads here
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        # A terminal's Ctrl-C reached Ansible too; a signal to this process alone did not.
        process.terminate()
        process.wait()
        raise


@contextlib.contextmanager
def only_run(environment: Environment) -> Iterator[None]:
    """Refuse to work on an environment that another run works on."""
    path = Path(f"/run/lock/cpq-oms-{environment.name}.lock")
    with path.open("a+") as lock:
        deadline = time.monotonic() + 5
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.seek(0)
                    raise SetUpError(
                        f"another run works on ENV {environment.name} ({lock.read().strip()}); wait for it or end it"
                    ) from None
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(f"pid {os.getpid()}: {' '.join(sys.argv)}\n")
        lock.flush()
        yield


def stop_on(problems: Sequence[str]) -> None:
    """Stop on any finding; all of them are named at once."""
    if problems:
        raise SetUpError("\n".join(problems))


@dataclass(frozen=True)
class Command:
    """One word of the command line: what it needs to be installed and which playbooks it runs.

    Those of `inside` see the environment's hosts, in a rehearsal from within its network; those of `playbooks` come before
    them and may fetch what a rehearsal cannot.
    """

    summary: str
    playbooks: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    hosts: bool = True

    @property
    def is_whole(self) -> bool:
        """Tell whether services come to the hosts, so that every variable is read."""
        return SITE in self.inside


COMMANDS = {
    "hosts": Command("bring the hosts up", (HOSTS,)),
    "rebuild": Command("make the hosts anew, their disks included", (HOSTS,), extra=("-e", "nspawn_host_rebuild=true")),
    "site": Command("hosts, then PostgreSQL, Redis, Kafka and Zeebe on them", (JARS, HOSTS), (SITE,)),
    "bundle": Command("build and sign the bundle", (BUNDLE,), hosts=False),
    "release": Command(
        "everything: hosts, services, signed bundle, release, smoke", (JARS, HOSTS, BUNDLE), (SITE, RELEASE)
    ),
    "up": Command(
        "the same for any environment; where its machines are elsewhere, as a rehearsal",
        (JARS, HOSTS, BUNDLE, SIMULATOR),
        (SITE, RELEASE),
    ),
    "down": Command("remove the hosts and everything made for them", (DOWN,), hosts=False),
}


def prepare(environment: Environment, progress: Progress, command: Command) -> None:
    """Check first, then install what is missing."""
    with progress.step("Check the machine and the inventory"):
        stop_on(check_machine(environment, hosts=command.hosts))
    with progress.step("Debian packages"):
        install_packages((*BASE_PACKAGES, *HOST_PACKAGES))
    with progress.step("Virtual environment from locked requirements"):
        install_venv(environment.cache)
    if command.hosts:
        # What judges it comes with the virtual environment. No host has been touched yet.
        stop_on(check_variables(environment, services=command.is_whole))


def passes(environment: Environment, command: Command) -> list[Pass]:
    """List what Ansible is started for: once, or in a rehearsal several times.

    A rehearsal has its own secrets before everything and, where the external systems are real ones, a machine that stands
    for them before the release; what was rehearsed is put on record. No playbook that the real environment uses hears of that machine.
    """
    if not environment.is_rehearsed:
        return [Pass((*command.playbooks, *command.inside))]
    has_stand_in = not environment.has_simulator
    found = [Pass(command.playbooks, has_stand_in=has_stand_in)] if command.playbooks else []
    if command.inside:
        release = tuple(name for name in command.inside if name == RELEASE)
        services = tuple(name for name in command.inside if name != RELEASE)
        # A vault is read when Ansible starts, so the run that makes it is not the one that uses it.
        found += [Pass((SECRETS,), is_inside=True), Pass(services, is_inside=True)]
        if release and has_stand_in:
            found.append(Pass((REHEARSAL,), is_inside=True, has_stand_in=True))
        if release:
            found += [Pass(release, is_inside=True), Pass((EVIDENCE,), is_inside=True)]
    return found


def read_times(times: Path) -> list[tuple[str, float]]:
    """Take the plays of one run of Ansible and their seconds from the file in which it left them."""
    with contextlib.suppress(OSError, ValueError):
        found = [(str(title), float(seconds)) for title, seconds in json.loads(times.read_text())]
        times.unlink()
        return found
    return []


def run_command(command: Command, environment: Environment, extra: Sequence[str]) -> int:
    """Prepare, play, and print the times of both; return Ansible's exit code."""
    # Before the lock, which is root's: nobody else could open it.
    stop_on(preflight().check_root())
    progress = Progress(total=3 + len(passes(environment, command)))
    played: list[tuple[str, float]] = []
    code = 0
    with only_run(environment), tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        try:
            prepare(environment, progress, command)
            for one in passes(environment, command):
                with progress.step(f"Playbooks {', '.join(Path(name).stem for name in one.playbooks)}"):
                    code = play(environment, one, [*command.extra, *extra], times)
                played += read_times(times)
                if code:
                    break
        finally:
            played += read_times(times)
            if progress.times:
                print(progress.table(played), flush=True)
    return code


def tools(*, quiet: bool) -> int:
    """Install what linters and unit tests need: no hosts, no root unless a Debian package is missing."""
    if quiet and venv_is_current():
        return 0
    progress = Progress(2)
    with progress.step("Debian packages"):
        install_packages(BASE_PACKAGES)
    with progress.step("Virtual environment from locked requirements"):
        # Only root writes to the cache that all environments share.
        install_venv(Path.home() / ".cache" if os.geteuid() else Path("/var/cache/cpq-oms"))
    return 0


def test(words: Sequence[str]) -> int:
    """Become the test stages: all of them, or those named."""
    # They call make, which only a Debian package brings.
    tools(quiet=shutil.which("make") is not None)
    named = [word for word in words if not word.startswith("-")]
    wanted = [name for stage, names in STAGE_PACKAGES.items() if stage in (named or STAGE_PACKAGES) for name in names]
    if wanted:
        install_packages(wanted)
    os.chdir(ROOT)
    python = str(VENV / "bin/python")
    os.execv(python, [python, "-m", "tests.stages", *words])  # noqa: S606 - our own program


def log_in(environment: Environment, host: str | None, words: Sequence[str]) -> int:
    """Become ssh to one host; without a name to the first."""
    config = environment.state / "ssh_config"
    if not config.exists():
        raise SetUpError(
            f"ENV {environment.name} has no hosts yet ({config} is missing); bring them up (make hosts ENV={environment.name})"
        )
    known = re.findall(r"^Host ([a-z][\w-]*) ", config.read_text(), re.MULTILINE)
    if host is not None and host not in known:
        raise SetUpError(f"ENV {environment.name} has no host '{host}'; known: {', '.join(known)}")
    words = [*environment.inside, "ssh", "-F", str(config), host or known[0], *words]
    os.execvp(words[0], words)  # noqa: S606 - the shell is the host's


def enter(environment: Environment, words: Sequence[str]) -> int:
    """Become a shell, or a command, that sees what the environment's own operators see."""
    if environment.is_rehearsed and not Path("/run/netns", environment.inside[-1]).exists():
        raise SetUpError(f"ENV {environment.name} is not rehearsed here; bring it up (make up ENV={environment.name})")
    os.environ.pop("SSH_AUTH_SOCK", None)
    for name, value in environment.ansible.items():
        os.environ.setdefault(name, value)
    os.environ["PATH"] = f"{VENV / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    os.chdir(ROOT)
    line = [*environment.inside, *(words or [os.environ.get("SHELL", "/bin/bash")])]
    os.execvp(line[0], line)  # noqa: S606 - the person's own command


def add_options(name: str, parser: argparse.ArgumentParser) -> None:
    """Add what only one command takes."""
    if name == "drift":
        parser.add_argument("--against", help="compare with this environment in place of what is declared")
    if name == "readiness":
        parser.add_argument("--bundle", help="the bundle's folder (default: the newest in dist/)")
    if name == "ssh":
        parser.add_argument("--host", help="name of the host (default: the first)")
    if name == "load":
        parser.add_argument(
            "--orders", type=int, default=1_000_000, help="how many there are to be (default: a million)"
        )
    if name == "contract":
        parser.add_argument(
            "--previous", help="a bundle's folder or a git revision (default: the newest other bundle in dist/)"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit 1 with one line per finding when the set-up cannot go on."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    alone = commands.add_parser("tools", help="the virtual environment alone, for linters and unit tests")
    alone.add_argument("--quiet", action="store_true", help="say nothing when it is there")
    stages = commands.add_parser("test", help="every test stage, or those named")
    stages.add_argument("extra", nargs="*", metavar="STAGE", help="name of a stage; after --: its options")
    looks = {"check": Command("only look whether the set-up could run"), "ssh": Command("a shell on a host")}
    looks["drift"] = Command("compare declared with live, or with another environment; exit 3 when they differ")
    looks["readiness"] = Command("ask for every item that a release to production needs; exit 2 when one is not green")
    looks["contract"] = Command("compare what this checkout lays open with the previous bundle; exit 1 where it breaks")
    looks["load"] = Command("fill an environment that measures capacity with generated orders")
    looks["shell"] = Command("a shell, or a command, in the network of a rehearsal")
    for name, command in {**looks, **COMMANDS}.items():
        one = commands.add_parser(name, help=command.summary)
        one.add_argument("--env", default="local", help="an inventory's name, or its folder (default: local)")
        add_options(name, one)
        one.add_argument("extra", nargs="*", help="after --: arguments for ansible-playbook, or the command for ssh")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    actions: dict[str, Callable[[], int]] = {
        "tools": lambda: tools(quiet=arguments.quiet),
        "test": lambda: test(arguments.extra),
        "check": lambda: check_only(arguments.env),
        "drift": lambda: drift(find_environment(arguments.env), arguments.against, arguments.extra),
        "readiness": lambda: readiness(find_environment(arguments.env), arguments.bundle, arguments.extra),
        "contract": lambda: contract(find_environment(arguments.env), arguments.previous, arguments.extra),
        "load": lambda: load(find_environment(arguments.env), arguments.orders, arguments.extra),
        "shell": lambda: enter(find_environment(arguments.env), arguments.extra),
        "ssh": lambda: log_in(find_environment(arguments.env), arguments.host, arguments.extra),
    }
    try:
        action = actions.get(arguments.command)
        if action is not None:
            return action()
        return run_command(COMMANDS[arguments.command], find_environment(arguments.env), arguments.extra)
    except SetUpError as error:
        for line in str(error).splitlines():
            print(f"ERROR: {line}", file=sys.stderr)
        return 1
    except PermissionError as error:
        if os.geteuid() == 0:
            raise
        print(f"ERROR: {error.filename}: permission denied; run the same command as root", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command resumes.", file=sys.stderr)
        return 130


def drift(environment: Environment, against: str | None, extra: Sequence[str]) -> int:
    """Compare declared with live, or two environments, and print the report; exit 3 when they differ, 1 when something was not seen.

    The other environment is looked at, too, while it is up here; of one that is not, the last recording is taken.
    """
    words = [*extra]
    if against is not None:
        other = find_environment(against)
        recorded = RECORDINGS / other.name / "live.json"
        if is_up(other):
            look_for_drift(other, [])
        elif not recorded.is_file():
            raise SetUpError(
                f"ENV {other.name} is not up and nothing was recorded of it ({_shown(recorded)}); run make drift ENV={other.name} while it is up"
            )
        words += ["-e", f"drift_against={recorded}"]
    folder = look_for_drift(environment, words)
    print((folder / "report.txt").read_text(), end="")
    print(f"the same as a page: {_shown(folder / 'report.html')}")
    report = json.loads((folder / "report.json").read_text())
    if report["findings"]:
        return EXIT_DRIFT
    return 1 if report["unseen"] else 0


def readiness(environment: Environment, bundle: str | None, extra: Sequence[str]) -> int:
    """Ask for every item of readiness of a bundle; exit as Ansible does, which fails where one is not green."""
    if bundle is None:
        manifests = sorted((ROOT / "dist").glob("cpq-oms-*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
        if not manifests:
            raise SetUpError("dist/ holds no bundle; build one (make bundle), or name one (BUNDLE=its folder)")
        bundle = str(manifests[-1].parent)
    folder = Path(bundle).resolve()
    if not folder.is_dir():
        raise SetUpError(f"BUNDLE '{bundle}' is no folder; expected that of a bundle, as dist/cpq-oms-2026.11.29-001")
    with tempfile.TemporaryDirectory() as times:
        words = [*extra, "-e", json.dumps({"release_bundle": str(folder)})]
        # Files of this machine alone say much of it, so that hosts that are not up are no reason to stop.
        one = Pass((READINESS,), is_inside=is_up(environment))
        return play(environment, one, words, Path(times, "times.json"))


def load(environment: Environment, orders: int, extra: Sequence[str]) -> int:
    """Store generated orders in an environment that is up and released; what is there already stays."""
    with tempfile.TemporaryDirectory() as times:
        words = [*extra, "-e", f"load_orders={orders}"]
        return play(environment, Pass((LOAD,), is_inside=True), words, Path(times, "times.json"))


def contract(environment: Environment, previous: str | None, extra: Sequence[str]) -> int:
    """Compare the interfaces of this checkout with those of an earlier bundle and print the report; exit 1 where one breaks."""
    folder = ROOT / "dist/contract" / environment.name
    with tempfile.TemporaryDirectory() as temporary:
        contracts = previous_contracts(previous, Path(temporary))
        given = {"contract_previous": {"name": contracts.parent.name, "folder": str(contracts)}}
        words = [*extra, "-e", json.dumps({**given, "contract_folder": str(folder)})]
        code = play(environment, Pass((CONTRACT,)), words, Path(temporary, "times.json"))
    if code:
        return 1
    print((folder / "report.txt").read_text(), end="")
    print(f"the same as JSON: {_shown(folder / 'report.json')}")
    return 1 if json.loads((folder / "report.json").read_text())["problems"] else 0


def previous_contracts(previous: str | None, temporary: Path) -> Path:
    """Find the contracts of a bundle; those of a git revision, which a bundle of it would hold, are laid into `temporary`."""
    if previous is None:
        head = _git("rev-parse", "HEAD")
        manifests = sorted((ROOT / "dist").glob("cpq-oms-*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
        others = [path.parent for path in manifests if json.loads(path.read_text())["git_commit"] != head]
        if not others:
            raise SetUpError(
                "dist/ holds no bundle of another commit to compare with; name one (PREVIOUS=a bundle's folder, or a git revision)"
            )
        return others[-1] / "contracts"
    if (bundle := Path(previous)).is_dir():
        return bundle.resolve() / "contracts"
    revision = _git("rev-parse", "--verify", "--quiet", f"{previous}^{{commit}}")
    if not revision:
        raise SetUpError(f"PREVIOUS '{previous}' is neither a bundle's folder nor a git revision")
    laid = temporary / previous.replace("/", "-")
    archive = subprocess.run(["git", "archive", revision, "app/contracts"], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(laid, filter="data")
    return (laid / "app/contracts").rename(laid / "contracts")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def is_up(environment: Environment) -> bool:
    """Tell whether an environment's hosts were brought up here and can be reached from here."""
    if environment.is_rehearsed:
        return Path("/run/netns", environment.inside[-1]).exists()
    return (environment.state / "ssh_config").exists()


def look_for_drift(environment: Environment, words: Sequence[str]) -> Path:
    """Look at an environment, keep what was seen and return the folder of the report."""
    folder = RECORDINGS / environment.name
    with tempfile.TemporaryDirectory() as times:
        given = [*words, "-e", f"drift_folder={folder}"]
        code = play(environment, Pass((DRIFT,), is_inside=True), given, Path(times, "times.json"))
    if code:
        raise SetUpError(f"ENV {environment.name} could not be looked at; the reason is above")
    return folder


def check_only(name: str) -> int:
    """Look and change nothing."""
    environment = find_environment(name)
    problems = check_machine(environment, hosts=True)
    stop_on(problems + check_variables(environment, services=True) if venv_is_current() else problems)
    print(f"ENV {name} can be set up on this machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
