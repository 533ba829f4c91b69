#!/usr/bin/python
"""Ansible module: list the installed packages as the fact `packages`, once for every role of a run.

It asks dpkg and takes a tenth of a second; the general module opens apt's whole cache to learn the same.

A run that was killed may have left its package manager at work, or dpkg half-way, in which state it refuses everything else.
So the first is waited for and the second is finished before the listing.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: installed_packages
short_description: Finish an installation that was cut short, and list the installed Debian packages as the fact C(packages)
options:
  timeout: {description: Seconds to wait for somebody who installs packages just now., type: int, default: 300}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: List the installed packages
  installed_packages:
"""

RETURN = r"""
ansible_facts:
  description: C(packages) has the version of each installed package by name.
  returned: always
  type: dict
"""

FORMAT = "${db:Status-Status} ${Package} ${Version}\n"
HALF_DONE = ("half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending")
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
UPDATES = Path("/var/lib/dpkg/updates")
REPAIRS = (
    ("dpkg", "--force-confdef", "--force-confold", "--configure", "-a"),
    ("apt-get", "-q", "-y", "--no-install-recommends", "--fix-broken", "install"),
)
# One that was cut short while it was unpacked is taken for the newest version by apt, and refused by dpkg.
REINSTALL = ("apt-get", "-q", "-y", "--no-install-recommends", "--reinstall", "install")
ERRORS = "${db:Status-Eflag} ${binary:Package}\n"
PAUSE_SECONDS = 0.1


def wait_until_idle(seconds: float) -> str:
    """Return the lock that somebody still holds after so many seconds, or nothing when nobody installs packages."""
    deadline = time.monotonic() + seconds
    for path in LOCKS:
        with Path(path).open("a") as lock:
            while True:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        return path
                    time.sleep(PAUSE_SECONDS)
    return ""


def is_half_done(listing: str) -> bool:
    """Tell whether dpkg was cut short: a package is between two states, or dpkg's own journal was not closed."""
    return any(line.startswith(HALF_DONE) for line in listing.splitlines()) or any(UPDATES.glob("[0-9]*"))


def torn_packages(listing: str) -> list[str]:
    """Return the packages that dpkg wants to have installed again, of a listing in the form ERRORS."""
    return [line.split(" ", 1)[1] for line in listing.splitlines() if line.startswith("reinstreq ")]


def main() -> None:
    """Wait, repair, ask dpkg."""
    module = AnsibleModule(argument_spec={"timeout": {"type": "int", "default": 300}}, supports_check_mode=True)
    if held := wait_until_idle(0 if module.check_mode else module.params["timeout"]):
        module.fail_json(
            msg=f"somebody installs packages ({held} is locked); wait for the end of it and run this again"
        )
    query = ["dpkg-query", "--show", f"--showformat={FORMAT}"]
    _, listing, _ = module.run_command(query, check_rc=True)
    repaired = is_half_done(listing)
    if repaired and not module.check_mode:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        for repair in REPAIRS:
            module.run_command(list(repair), check_rc=True, environ_update=quiet)
        _, errors, _ = module.run_command(["dpkg-query", "--show", f"--showformat={ERRORS}"], check_rc=True)
        if torn := torn_packages(errors):
            module.run_command([*REINSTALL, *torn], check_rc=True, environ_update=quiet)
        _, listing, _ = module.run_command(query, check_rc=True)
    entries = (line.split(" ", 2) for line in listing.splitlines())
    packages = {name: version for status, name, version in entries if status == "installed"}
    module.exit_json(
        changed=repaired,
        ansible_facts={"packages": packages},
        diff={"before": "an installation that was cut short\n", "after": ""} if repaired else {},
    )


if __name__ == "__main__":
    main()
