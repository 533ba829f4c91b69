"""Whatever is wrong with the machine or the inventory stops the set-up before its first change, in one line that says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.scratch_environment import ROOT, ScratchEnvironment, run

# Nobody, who may read everything: a checkout below /root is no business of this test, and a lock is opened to be written.
READ_ALL = "all,+dac_read_search"
UNPRIVILEGED = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *(f"--bounding-set=-{READ_ALL}", f"--inh-caps=-{READ_ALL}", f"--ambient-caps=-{READ_ALL}"),
]


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ERROR: ")
    return lines[0].removeprefix("ERROR: ")


def refused(scratch: ScratchEnvironment, prefix: Sequence[str] = (), command: str = "hosts") -> str:
    """Try to bring the hosts up, or more; return the one line that refuses it, after a look that nothing changed."""
    before = scratch.traces()
    images = sorted(scratch.cache.glob("images/*"))

    line = only_error(scratch.set_up(command, prefix=prefix))

    assert scratch.traces() == before
    assert sorted(scratch.cache.glob("images/*")) == images
    return line


@pytest.mark.parametrize("command", ["hosts", "down"])
def test_not_root(scratch: ScratchEnvironment, command: str) -> None:
    # A run of root's leaves its lock, which nobody else may open.
    lock = Path(f"/run/lock/cpq-oms-{scratch.name}.lock")
    lock.write_text("what root wrote\n")

    line = refused(scratch, UNPRIVILEGED, command)

    assert line.startswith("not root: ")
    assert "run the same command as root" in line
    assert lock.read_text() == "what root wrote\n"


def test_a_checkout_that_is_not_ones_own(tmp_path: Path) -> None:
    shutil.copy(ROOT / "bootstrap.py", tmp_path)
    (tmp_path / ".config/locks").mkdir(parents=True)
    shutil.copy(ROOT / ".config/locks/control.txt", tmp_path / ".config/locks")

    line = only_error(run([*UNPRIVILEGED, "python3", str(tmp_path / "bootstrap.py"), "tools"]))

    assert line == f"{tmp_path}/.venv: permission denied; run the same command as root"
    assert not (tmp_path / ".venv").exists()


def test_no_control_groups(scratch: ScratchEnvironment) -> None:
    hide = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'

    line = refused(scratch, prefix=["unshare", "--mount", "sh", "-c", hide, "sh"])

    assert line.startswith("no nspawn hosts here: no cgroup v2 below /sys/fs/cgroup; mount it there")


def test_no_right_to_mount(scratch: ScratchEnvironment) -> None:
    line = refused(scratch, prefix=["setpriv", "--bounding-set=-sys_admin"])

    assert line.startswith("no nspawn hosts here: CAP_SYS_ADMIN is missing; run on a machine")


def test_unknown_environment() -> None:
    done = run(["make", "release", "ENV=locla"])

    # make names itself by its level when `make test` runs the tests.
    errors = [line for line in done.stderr.splitlines() if not re.match(r"make(\[\d+\])?: ", line)]
    assert done.returncode == 2
    assert len(errors) == 1
    assert errors[0].startswith("ERROR: ENV 'locla' is unknown; known: ")
    assert "local" in errors[0].rpartition("known:")[2]


@pytest.mark.parametrize("playbook", ["hosts", "hosts_down"])
def test_machines_that_are_not_made_here_are_left_alone(scratch: ScratchEnvironment, playbook: str) -> None:
    scratch.settings.write_text(scratch.settings.read_text().replace("cpq_machines: nspawn", "cpq_machines: existing"))
    before = scratch.traces()

    done = scratch.play(playbook)

    assert done.returncode != 0
    assert "cpq_machines is existing: the machines of scratcht are not made or removed here" in done.stdout
    assert scratch.traces() == before


def test_missing_variable_that_the_set_up_reads(scratch: ScratchEnvironment) -> None:
    scratch.settings.write_text(scratch.settings.read_text().replace("cpq_subnet:", "cpq_sbnet:"))

    line = refused(scratch)

    assert line.endswith("environment.yml: cpq_subnet is missing; is cpq_sbnet meant?")


def test_misspelt_variable_of_a_role(scratch: ScratchEnvironment) -> None:
    extra = scratch.inventory / "group_vars/all/extra.yml"
    extra.write_text("nspawn_host_relase: trixie\n")

    line = refused(scratch)

    assert line == f"{extra}: nspawn_host_relase is unknown; is nspawn_host_release meant?"


def own_endpoints(scratch: ScratchEnvironment, old: str, new: str) -> Path:
    """Give the inventory endpoints of its own, with one altered place."""
    path = scratch.inventory / "group_vars/all/endpoints.yml"
    text = path.read_text()
    assert text.count(old) == 1
    path.unlink()
    path.write_text(text.replace(old, new))
    return path


def test_missing_variable_of_the_services(scratch: ScratchEnvironment) -> None:
    path = own_endpoints(scratch, 'cpq_issuer: "{{ cpq_simulator }}/issuer"\n', "")

    line = refused(scratch, command="site")

    assert line == f"{path}: cpq_issuer is missing; issuer of tokens: add it"


def test_misspelt_variable_of_the_services(scratch: ScratchEnvironment) -> None:
    path = own_endpoints(scratch, "\ncpq_issuer:", "\ncpq_isuer:")

    line = refused(scratch, command="site")

    assert line == f"{path}: cpq_isuer is unknown; is cpq_issuer meant?"


def test_misspelt_use_of_a_variable(scratch: ScratchEnvironment) -> None:
    path = own_endpoints(scratch, "{{ cpq_simulator }}/issuer", "{{ cpq_simulatr }}/issuer")

    line = refused(scratch, command="site")

    assert line == f"{path}: cpq_issuer uses cpq_simulatr, which is unknown; is cpq_simulator meant?"


def test_missing_variable_that_a_role_requires(scratch: ScratchEnvironment) -> None:
    folder = scratch.inventory / "group_vars/kafka"
    variables = (folder / "kafka.yml").read_text()
    folder.unlink()
    folder.mkdir()
    (folder / "kafka.yml").write_text(re.sub(r"^kafka_cluster_id:.*\n", "", variables, flags=re.MULTILINE))

    line = refused(scratch, command="site")

    assert (
        line == f"{scratch.inventory}: kafka_cluster_id is missing, which the role kafka requires; set it in group_vars"
    )


def test_value_that_an_environment_cannot_have(scratch: ScratchEnvironment) -> None:
    scratch.hosts = {"scratch-1": "10.56.9.11"}
    scratch.write()
    before = scratch.traces()

    done = scratch.set_up("hosts")

    reasons = [line for line in done.stdout.splitlines() if line.strip().startswith("reason")]
    assert done.returncode != 0
    assert len(reasons) == 1
    assert "host scratch-1: ansible_host 10.56.9.11 is not a free address of 10.56.4.0/24" in reasons[0]
    assert scratch.traces() == before


def test_taken_subnet(scratch: ScratchEnvironment) -> None:
    run(["ip", "link", "add", "taken0", "type", "bridge"]).check_returncode()
    try:
        run(["ip", "address", "add", "10.56.4.77/25", "dev", "taken0"]).check_returncode()
        line = refused(scratch)
    finally:
        run(["ip", "link", "delete", "taken0"]).check_returncode()

    assert line.startswith("subnet 10.56.4.0/24 is taken: taken0 has 10.56.4.0/25; choose another cpq_subnet")


@pytest.mark.parametrize("which", ["state", "cache"])
def test_full_disk(scratch: ScratchEnvironment, tmp_path: Path, which: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(small)]).check_returncode()
    try:
        if which == "state":
            scratch.state = small / "state"
        else:
            scratch.cache = small / "cache"
        scratch.write()
        line = refused(scratch)
    finally:
        run(["umount", str(small)]).check_returncode()
        scratch.state = None

    assert line.startswith(f"disk full: {small / which} has 0.0 GiB free")
    assert "free some space" in line


def test_full_disk_of_the_checkout(scratch: ScratchEnvironment, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=16M", "none", str(small)]).check_returncode()
    try:
        shutil.copy(ROOT / "bootstrap.py", small)
        for part in (".config/locks", "playbooks", "roles"):
            shutil.copytree(ROOT / part, small / part)
        line = refused(scratch, prefix=["env", "-C", str(small)])
        assert not (small / ".venv").exists()
    finally:
        run(["umount", str(small)]).check_returncode()

    assert line == f"disk full: {small} has 0.0 GiB free, the virtual environment take 1; free some space or move it"


def test_cache_with_an_image_that_lost_its_stamp(scratch: ScratchEnvironment, tmp_path: Path) -> None:
    scratch.cache = tmp_path / "cache"
    scratch.write()
    image = scratch.cache / "images/0123456789abcdef"
    image.mkdir(parents=True)

    line = refused(scratch)

    assert line.startswith(f"broken cache: image {image} cannot be read")
    assert f"remove it (rm -rf {image}) and run again" in line


def test_cache_with_a_damaged_jar(scratch: ScratchEnvironment, tmp_path: Path) -> None:
    scratch.cache = tmp_path / "cache"
    scratch.write()
    jars = scratch.cache / "jars/0123456789abcdef"
    jars.mkdir(parents=True)
    (jars / "one.jar").write_bytes(b"what was not fetched")
    run(["tar", "-C", str(jars), "-cf", str(jars / "jars.tar"), "one.jar"]).check_returncode()
    (jars / "manifest.json").write_text('{"one.jar": "%s"}' % ("0" * 64))

    line = refused(scratch)

    assert (
        line == f"broken cache: {jars}: one.jar is not what its manifest says; remove it (rm -r {jars}) and run again"
    )


def test_second_run_at_the_same_time(scratch: ScratchEnvironment) -> None:
    lock = Path(f"/run/lock/cpq-oms-{scratch.name}.lock")
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        line = refused(scratch)
    finally:
        holder.communicate(b"\n")

    assert line.startswith(f"another run works on ENV {scratch.name}")


def test_unreachable_host_is_named_before_anything_is_done_on_any_host(scratch: ScratchEnvironment) -> None:
    scratch.hosts = {"scratch-1": "10.56.4.11", "scratch-2": "10.56.4.12"}
    scratch.write()
    assert scratch.set_up("hosts").returncode == 0
    # The first is switched off, which a run mends by itself; the second runs and cannot be reached.
    scratch.on_host("scratch-1", "systemctl poweroff")
    scratch.until(lambda: not scratch.is_running("scratch-1"), "the host is off")
    scratch.on_host("scratch-2", "systemctl stop ssh.service")

    done = scratch.set_up("hosts")

    reasons = [line for line in done.stdout.splitlines() if line.strip().startswith("reason")]
    assert done.returncode != 0
    assert len(reasons) == 1
    assert "host scratch-2 (10.56.4.12) is unreachable: its machine runs and nothing answers on port 22" in reasons[0]
    assert "make rebuild ENV=scratcht" in reasons[0]
    assert not scratch.is_running("scratch-1")
    assert scratch.is_running("scratch-2")

    restarted = scratch.set_up("hosts", "-e", "nspawn_host_restart=true")

    assert restarted.returncode == 0, restarted.stdout
    assert "restart scratch-2: nothing answers on port 22" in restarted.stdout
    assert scratch.on_host("scratch-1", "true").returncode == scratch.on_host("scratch-2", "true").returncode == 0
