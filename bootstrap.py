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
BASE_PACKAGES = ("make", "python3-venv")
HOST_PACKAGES = (
    "iproute2",
    "maven",
    "mmdebstrap",
    "nftables",
    "openjdk-17-jdk-headless",
    "openssh-client",
    "rsync",
    "systemd-container",
)

# There while packages are being installed: a run that finds it finishes what an earlier one was killed in.
UNFINISHED_PACKAGES = Path("/var/cache/cpq-oms/packages.unfinished")
# Who holds one of these is at work on packages; the second pair is apt's own.
PACKAGE_LOCKS = tuple(
    Path("/var", name)
    for name in ("lib/dpkg/lock-frontend", "lib/dpkg/lock", "lib/apt/lists/lock", "cache/apt/archives/lock")
)
PACKAGE_LOCK_SECONDS = 300

JARS = "playbooks/jars.yml"
HOSTS = "playbooks/hosts.yml"
DOWN = "playbooks/hosts_down.yml"
PORTS = "playbooks/ports.yml"
SITE = "playbooks/site.yml"
BUILD = "playbooks/build.yml"
RELEASE = "release.yml"


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
        return Path(self.variables["cpq_state_dir"])

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
        """Return all step times, Ansible's plays in place of the one step that ran them."""
        rows = [*(self.times[:-1] if played else self.times), *played]
        width = max(len(title) for title, _ in rows)
        lines = [f"  {title:<{width}} {seconds:8.1f} s" for title, seconds in rows]
        total = sum(seconds for _, seconds in self.times)
        return "\n".join(["", "Steps and times", *lines, f"  {'in all':<{width}} {total:8.1f} s"])


# -- checks: nothing below this line and above the next heading changes anything


def environments() -> dict[str, Path]:
    """Find every inventory whose machines are made here."""
    found = {}
    for folder in INVENTORIES:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            settings = path / "group_vars/all/environment.yml"
            if settings.is_file() and re.search(r"^cpq_machines: nspawn\b", settings.read_text(), re.MULTILINE):
                found[path.name] = path
    return found


def find_environment(name: str) -> Environment:
    """Read the few variables that the set-up needs; fail by the name of a missing one.

    A name is looked up among the repository's inventories; a path is taken as it is, for inventories kept elsewhere.
    """
    inventory = Path(name).resolve() if "/" in name else environments().get(name)
    if inventory is None:
        raise SetUpError(
            f"ENV '{name}' is unknown or its machines are not made here; known: {', '.join(sorted(environments()))}"
        )
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
    """Find variables that the inventory sets and nothing reads, or, with services, that something reads and nothing sets.

    Names alone are compared, as text: what the inventory sets must be an option of a role or be named by a playbook, a
    role or another variable. So a misspelt name stops here and not in the middle of a release.
    """
    options, required = _role_options()
    # An inventory may share another's folders by links, which rglob does not follow.
    folders = os.walk(environment.inventory / "group_vars", followlinks=True)
    files = sorted(Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".yml"))
    set_in: dict[str, Path] = {}
    for path in files:
        for name in re.findall(r"^([A-Za-z_]\w*):", path.read_text(), re.MULTILINE):
            set_in.setdefault(name, path)
    playbooks = "\n".join(path.read_text() for path in _playbook_files())
    values = re.sub(r"^\w+:", "", "\n".join(path.read_text() for path in files), flags=re.MULTILINE)
    read = set(re.findall(r"\b[a-z]\w+", f"{values}\n{playbooks}")).union(*options.values())
    # A playbook may put a name together, 'app_service_' ~ unit; then the role judges what it finds under it.
    prefixes = ("ansible_", *re.findall(r"'([a-z]\w*_)'\s*~", f"{values}\n{playbooks}"))
    unread = {name: path for name, path in set_in.items() if name not in read and not name.startswith(prefixes)}
    problems = [
        f"{_shown(path)}: nothing reads {name}; {_remedy(_nearest(name, read - set(set_in)))}"
        for name, path in sorted(unread.items())
    ]
    if not services:
        return problems
    # A misspelt name is missing under its right one too: one mistake, one line.
    set_in |= {meant: path for name, path in unread.items() if (meant := _nearest(name, read - set(set_in)))}
    passed = set(re.findall(r"^\s+(\w+):", playbooks, re.MULTILINE))
    problems += [
        f"{environment.inventory.name}: {name} is used and set nowhere; {_remedy(_nearest(name, set_in))}"
        for name in sorted(_names_in_expressions(f"{values}\n{playbooks}") - set(set_in) - passed)
    ]
    # A role that no playbook applies yet cannot miss anything.
    used = {role for role in required if re.search(rf"(?:role|name): {role}\b", playbooks)}
    problems += [
        f"{environment.inventory.name}: {name} is required by the role {role} and set nowhere; {_remedy(_nearest(name, set_in))}"
        for role in sorted(used)
        for name in sorted(required[role] - set(set_in) - passed)
    ]
    return problems


def _role_options() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    options: dict[str, set[str]] = {}
    required: dict[str, set[str]] = {}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        role = path.parent.parent.name
        blocks = re.split(rf"^\s+(?=(?:{role}_\w+):)", path.read_text(), flags=re.MULTILINE)[1:]
        options[role] = {block.partition(":")[0] for block in blocks}
        required[role] = {
            # Of the option itself, in either way to write it, and not of an option of its own.
            block.partition(":")[0]
            for block in blocks
            if re.search(r"\A.*\brequired: true|^ {8}required: true", block, re.MULTILINE)
        }
    return options, required


def _playbook_files() -> list[Path]:
    roots = (ROOT / "playbooks", *(ROOT / "roles").glob("*/tasks"), *(ROOT / "roles").glob("*/templates"))
    found = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return [*found, *(path for path in (ROOT / RELEASE,) if path.is_file())]


def _names_in_expressions(text: str) -> set[str]:
    """Find inventory variables inside {{ }}, leaving out quoted text such as a database role of the same prefix."""
    expressions = re.findall(r"\{\{(.*?)\}\}", text, re.DOTALL)
    bare = (re.sub(r"'[^']*'|\"[^\"]*\"", "", expression) for expression in expressions)
    return {name for expression in bare for name in re.findall(r"(?<![\w.])(?:cpq|secret)_\w+", expression)}


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


def check_machine(environment: Environment, *, hosts: bool, services: bool) -> list[str]:
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
        *(judge.check_subnet_free(environment.variables["cpq_subnet"], bridge) if shutil.which("ip") else []),
        *judge.check_disk(environment.cache, 0.5 if list(environment.cache.glob("images/[!.]*")) else 4, "the caches"),
        *judge.check_disk(environment.state, 1, "the hosts"),
        *judge.check_disk(ROOT, 0.2 if venv_is_current() else 1, "the virtual environment"),
        *judge.check_images(environment.cache),
        *check_jars(environment.cache),
        *check_variables(environment, services=services),
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


def play(environment: Environment, playbooks: Sequence[str], extra: Sequence[str], times: Path) -> int:
    """Run playbooks in one Ansible process, so that start-up and inventory are paid for once."""
    command = [
        str(VENV / "bin/ansible-playbook"),
        "-i",
        str(_shown(environment.inventory)),
        *playbooks,
        *extra,
    ]
    variables = {
        **os.environ,
        "PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin",
        "ANSIBLE_STDOUT_CALLBACK": os.environ.get("ANSIBLE_STDOUT_CALLBACK", "steps"),
        "CPQ_STEP_TIMES": str(times),
    }
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
    """One word of the command line: what it needs to be installed and which playbooks it runs."""

    summary: str
    playbooks: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    hosts: bool = True


COMMANDS = {
    "hosts": Command("bring the hosts up", (HOSTS,)),
    "rebuild": Command("make the hosts anew, their disks included", (HOSTS,), ("-e", "nspawn_host_rebuild=true")),
    "site": Command("hosts, then PostgreSQL, Redis, Kafka and Zeebe on them", (JARS, HOSTS, PORTS, SITE)),
    "build": Command("build the artifacts", (BUILD,), hosts=False),
    "release": Command(
        "everything: hosts, services, artifacts, release, smoke", (JARS, HOSTS, PORTS, SITE, BUILD, RELEASE)
    ),
    "down": Command("remove the hosts and everything made for them", (DOWN,), hosts=False),
}


def prepare(environment: Environment, progress: Progress, command: Command) -> None:
    """Check first, then install what is missing."""
    with progress.step("Check the machine and the inventory"):
        stop_on(check_machine(environment, hosts=command.hosts, services=SITE in command.playbooks))
    with progress.step("Debian packages"):
        install_packages((*BASE_PACKAGES, *HOST_PACKAGES))
    with progress.step("Virtual environment from locked requirements"):
        install_venv(environment.cache)


def run_command(command: Command, environment: Environment, extra: Sequence[str]) -> int:
    """Prepare, play, and print the times of both; return Ansible's exit code."""
    # Before the lock, which is root's: nobody else could open it.
    stop_on(preflight().check_root())
    progress = Progress(total=4)
    played: list[tuple[str, float]] = []
    with only_run(environment), tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        try:
            prepare(environment, progress, command)
            with progress.step(f"Playbooks {', '.join(Path(name).stem for name in command.playbooks)}"):
                code = play(environment, command.playbooks, [*command.extra, *extra], times)
        finally:
            with contextlib.suppress(OSError, ValueError):
                played = [(str(title), float(seconds)) for title, seconds in json.loads(times.read_text())]
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
    os.execvp("ssh", ["ssh", "-F", str(config), host or known[0], *words])  # noqa: S606 - the shell is the host's


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit 1 with one line per finding when the set-up cannot go on."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    alone = commands.add_parser("tools", help="the virtual environment alone, for linters and unit tests")
    alone.add_argument("--quiet", action="store_true", help="say nothing when it is there")
    stages = commands.add_parser("test", help="every test stage, or those named")
    stages.add_argument("extra", nargs="*", metavar="STAGE", help="name of a stage; after --: its options")
    looks = {"check": Command("only look whether the set-up could run"), "ssh": Command("a shell on a host")}
    for name, command in {**looks, **COMMANDS}.items():
        one = commands.add_parser(name, help=command.summary)
        one.add_argument("--env", default="local", help="an inventory's name, or its folder (default: local)")
        if name == "ssh":
            one.add_argument("--host", help="name of the host (default: the first)")
        one.add_argument("extra", nargs="*", help="after --: arguments for ansible-playbook, or the command for ssh")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    actions: dict[str, Callable[[], int]] = {
        "tools": lambda: tools(quiet=arguments.quiet),
        "test": lambda: test(arguments.extra),
        "check": lambda: check_only(arguments.env),
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


def check_only(name: str) -> int:
    """Look and change nothing."""
    stop_on(check_machine(find_environment(name), hosts=True, services=True))
    print(f"ENV {name} can be set up on this machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
