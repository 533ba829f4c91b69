#!/usr/bin/python
"""Ansible module: what a host is by its own account, as texts by item, so that it can be held to what is declared and kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_planes import Items, UnseenError, nftables, packages, run, sysctl
from ansible.module_utils.unit_files import timers

DOCUMENTATION = r"""
module: live_state
short_description: Describe packages, units, kernel settings, packet filter, certificates, artifacts and database settings
description: Reads only. Each plane that cannot be read is named, and is not taken for a sound one.
options:
  planes: {description: Which to look at., type: list, elements: str, required: true}
  sysctl: {description: Names of the kernel settings to read., type: list, elements: str, default: []}
  files: {description: Files that are read whole for the plane C(sysctl)., type: list, elements: str, default: []}
  root: {description: Folder of the installed releases., type: str, default: /opt/cpq-oms}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
live: {description: States by item, by plane., returned: always, type: dict}
unseen: {description: Why a plane could not be read, by plane., returned: always, type: dict}
"""

CERTIFICATES = Path("/etc/cpq-oms/tls")
UNIT_FILES = Path("/etc/systemd/system")
UNITS = ("cpq-oms-*", "postgresql@*", "patroni*", "redis-server*", "kafka*", "zeebe*")
PROPERTIES = ("Id", "DropInPaths", "NeedDaemonReload", "ActiveState", "UnitFileState")
SHOWN = 12
# Of the settings that are not the server's own defaults: what gives them, and their value in force.
SETTINGS = """
SELECT json_object_agg(item, state) FROM (
  SELECT name AS item, current_setting(name) AS state FROM pg_settings
  WHERE source IN ('configuration file', 'command line')
  UNION ALL SELECT 'ALTER SYSTEM ' || name, coalesce(setting, '') FROM pg_file_settings
  WHERE sourcefile = current_setting('data_directory') || '/postgresql.auto.conf'
  UNION ALL SELECT 'waits for a restart: ' || name, 'pending' FROM pg_settings WHERE pending_restart
  UNION ALL SELECT concat_ws(' ', 'ALTER DATABASE', datname, split_part(one, '=', 1)), split_part(one, '=', 2)
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS one WHERE s.setrole = 0
) AS all_settings
"""


def units() -> Items:
    """Return whether units start with the host and what is wrong with them, and the drop-ins that alter them."""
    found = {}
    listed = run("systemctl", "show", *UNITS, *timers(), "--all", f"--property={','.join(PROPERTIES)}")
    for block in filter(None, listed.split("\n\n")):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        state = [unit["UnitFileState"] or "transient"]
        state += ["changed since it was loaded"] if unit["NeedDaemonReload"] == "yes" else []
        # Those without an installation are started by whoever needs them.
        is_stopped = unit["Id"].endswith(".timer") and state[0] == "enabled" and unit["ActiveState"] == "inactive"
        state += ["stopped"] if is_stopped else []
        state += ["failed"] if unit["ActiveState"] == "failed" else []
        # One that is started by whoever needs it is loaded at one moment and not at the next.
        if state not in (["static"], ["transient"]):
            found[unit["Id"]] = ", ".join(state)
        for path in unit["DropInPaths"].split():
            if not path.startswith("/usr/lib/"):
                found[f"drop-in {path}"] = "there"
    return found


def unit_files() -> Items:
    """Return the hashes of the platform's unit files."""
    return {path.name: digest(path) for path in sorted(UNIT_FILES.glob("cpq-oms*")) if path.is_file()}


def certificates() -> Items:
    """Return what each of the host's certificates says of itself."""
    found = {}
    for folder in sorted(path for path in CERTIFICATES.glob("[!.]*") if path.is_dir()):
        path = folder / "cert.pem"
        said = run(
            "openssl", "x509", "-in", str(path), "-noout", "-subject", "-issuer", "-enddate", "-ext", "subjectAltName"
        )
        found[folder.name] = "; ".join(line.strip() for line in said.splitlines() if line.strip())
    return found


def artifacts(root: Path) -> Items:
    """Return of each installed unit the release that it runs and the hash of its artifact."""
    found = {}
    for path in sorted(root.glob("*/current/release.json")):
        release = json.loads(path.read_text(encoding="utf-8"))
        found[path.parts[-3]] = f"{release['release_id']} sha256 {release['artifact_sha256'][:SHOWN]}"
    return found


def postgresql_settings() -> Items:
    """Return the server's settings that somebody gave, with how they were given."""
    psql = ("runuser", "-u", "postgres", "--", "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", "cpq", "-c")
    found: Items = json.loads(run(*psql, SETTINGS))
    # A cluster's member is told these by Patroni, each its own.
    return {
        name: value for name, value in found.items() if not re.match("cluster_name|primary_|listen_|hot_|port$", name)
    }


def digest(path: Path) -> str:
    """Return enough of a file's hash to tell it from another."""
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:SHOWN]}"


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "planes": {"type": "list", "elements": "str", "required": True},
            "sysctl": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "str", "default": "/opt/cpq-oms"},
        },
        supports_check_mode=True,
    )
    looks: dict[str, Callable[[], Items]] = {
        "sysctl": lambda: sysctl(module.params["sysctl"], module.params["files"]),
        "packages": packages,
        "units": units,
        "unit-files": unit_files,
        "nftables": nftables,
        "certificates": certificates,
        "artifacts": lambda: artifacts(Path(module.params["root"])),
        "postgresql-settings": postgresql_settings,
    }
    live: dict[str, Items] = {}
    unseen: dict[str, Any] = {}
    for plane in module.params["planes"]:
        try:
            live[plane] = looks[plane]()
        except (UnseenError, OSError, ValueError) as error:
            unseen[plane] = str(error)
    module.exit_json(changed=False, live=live, unseen=unseen)


if __name__ == "__main__":
    main()
