"""A newer engine version on the host for tests: in memory, from Maven's jars, gone when the test is over.

The workers must get along with it; nothing of the platform runs on it. It needs Java 21, which the host has and the control
machine does not.
"""

from __future__ import annotations

import shlex
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ansible_modules import load
from tests.support.released_host import STATE, ReleasedHost

FILES = Path(__file__).parent
CACHE = Path("/var/cache/cpq-oms/jars")
PORT = 26599
UNIT = "cpq-test-newer-engine"
START_SECONDS = 90


@contextmanager
def newer_engine(host: ReleasedHost) -> Iterator[str]:
    """Run the engine for the time of the block; gives its address."""
    jars = _jars_on(host)
    java = f"/usr/bin/java -Xmx384m -cp '{jars}/*' cpqoms.compatibility.EngineLauncher {PORT}"
    unit = f"{UNIT}-{uuid.uuid4().hex[:8]}.service"  # its journal begins with it
    host.run(f"systemctl stop '{UNIT}-*.service'", check=False)
    host.run(f"systemd-run --quiet --collect --unit={unit} {java}")
    try:
        host.wait_until(lambda: "READY" in host.journal(unit).split(), "the newer engine is up", START_SECONDS)
        yield f"{host.address}:{PORT}"
    finally:
        host.run(f"systemctl stop {unit}", check=False)


def _jars_on(host: ReleasedHost) -> str:
    """The folder of the jars on the host; made, locked and verified in the control machine's cache, and sent once."""
    jar_build = load("jar_build")
    recipe = jar_build.Recipe.read("newer-engine", FILES / "pom.xml", FILES / "jars.sha256", str(FILES / "launcher"))
    entry = CACHE / recipe.identity
    if not entry.exists():
        jar_build.ensure(recipe, CACHE)
    folder = f"/var/tmp/cpq-test-newer-engine-{recipe.identity}"
    if host.run(f"test -d {folder}", check=False).returncode != 0:
        jar_build.read(recipe, entry, verify=True)
        unpack = (
            f"rm -rf {folder}.part && mkdir {folder}.part && tar -xf - -C {folder}.part && mv {folder}.part {folder}"
        )
        ssh = ["ssh", "-F", str(STATE / host.environment / "ssh_config"), host.name, unpack]
        with (entry / jar_build.ARCHIVE).open("rb") as archive:
            subprocess.run(ssh, stdin=archive, check=True, capture_output=True)
    return shlex.quote(folder)
