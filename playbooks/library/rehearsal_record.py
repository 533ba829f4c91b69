"""Ansible module: write down what was rehearsed, and the three things in which a rehearsal differs from the real environment.

It runs on the control machine. The record holds names and digests, no secret; the same rehearsal gives the same record, so
a repeat changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.inventory_digest import digest

DOCUMENTATION = r"""
module: rehearsal_record
short_description: Write down what was rehearsed and what differed from the real environment
description:
  - Fails when a host was made from no image, or when the environment has a world around it and nothing stands for that.
options:
  path: {description: The record., type: path, required: true}
  environment: {description: Name of the environment., type: str, required: true}
  inventory: {description: Its folder., type: path, required: true}
  hosts: {description: Address of each host by name., type: dict, required: true}
  hosts_directory: {description: Folder with one for each host, as the role nspawn_host makes it., type: path, required: true}
  release: {description: What C(cpq-oms-admin release status) tells., type: dict, required: true}
  secrets: {description: Names of the generated secrets., type: list, elements: str, required: true}
  signer: {description: File with the public key whose bundles this environment takes in a rehearsal alone., type: path, required: true}
  vault: {description: The vault that holds them., type: path, required: true}
  world: {description: Address of each external system by name., type: dict, required: true}
  simulators: {description: Folder of the simulator that was built beside the bundle; missing where the bundle has one., type: path, required: true}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Write the record
  rehearsal_record:
    path: /var/lib/cpq-oms/staging/evidence.json
    environment: staging
    inventory: "{{ inventory_dir }}"
    hosts: {api-1: 192.0.2.13}
    hosts_directory: /var/lib/cpq-oms/staging/hosts
    release: "{{ status }}"
    secrets: [db_api_password]
    signer: /etc/cpq-oms/staging/rehearsal-signer.pub
    vault: /etc/cpq-oms/staging/vault.yml
    world: {crm: "https://crm.example.com"}
    simulators: /var/lib/cpq-oms/staging/simulator
"""

RETURN = r"""
record: {description: What was written., returned: success, type: dict}
"""


def images(hosts_directory: Path, hosts: Iterable[str]) -> list[str]:
    """Name the images that the hosts were made from.

    Raises:
        ValueError: a host has no record of its image.
    """
    found = set()
    for name in hosts:
        try:
            image = json.loads((hosts_directory / name / "host.json").read_text())["image"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{name}: there is no image on record for it ({error}); was it made by make up?"
            ) from error
        found.add(Path(image).parent.name)
    return sorted(found)


def record(options: dict[str, Any]) -> dict[str, Any]:
    """Return the record.

    Raises:
        ValueError: the record would not be true.
    """
    run = options["release"].get("run") or {}
    simulators, signer = Path(options["simulators"]), Path(options["signer"])
    beside = sorted(path.name for path in simulators.iterdir() if path.is_dir()) if simulators.is_dir() else []
    if Path(options["hosts_directory"], "stand-in").is_dir() and not beside:
        raise ValueError(f"stand-in: nothing stands for the external systems, {simulators} is empty")
    return {
        "environment": options["environment"],
        "inventory_sha256": digest(Path(options["inventory"])),
        "hosts": dict(sorted(options["hosts"].items())),
        "release": {key: run.get(key) for key in ("release_id", "state", "operator", "started_at", "finished_at")},
        "steps": [
            {key: step.get(key) for key in ("step", "state", "started_at", "finished_at", "evidence")}
            for step in options["release"].get("steps", ())
        ],
        "differs": {
            "secrets": {
                "generated": sorted(options["secrets"]),
                "vault": options["vault"],
                "signer": signer.read_text().strip() if signer.is_file() else "",
            },
            "world": {
                "simulator": beside[-1] if beside else "in the bundle",
                "answers_for": dict(sorted(options["world"].items())),
            },
            "packages": {
                "from": "images and caches of the control machine",
                "images": images(Path(options["hosts_directory"]), options["hosts"]),
            },
        },
    }


def lasting(found: dict[str, Any]) -> dict[str, Any]:
    """Return a record without when and by which steps: a run with nothing new rehearses nothing new."""
    release = {key: found["release"].get(key) for key in ("release_id", "state")}
    return {**{key: part for key, part in found.items() if key != "steps"}, "release": release}


def main() -> None:
    """Write the record where it differs from the one that is there."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "environment": {"type": "str", "required": True},
            "inventory": {"type": "path", "required": True},
            "hosts": {"type": "dict", "required": True},
            "hosts_directory": {"type": "path", "required": True},
            "release": {"type": "dict", "required": True},
            "secrets": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "signer": {"type": "path", "required": True},
            "vault": {"type": "path", "required": True},
            "world": {"type": "dict", "required": True},
            "simulators": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        found = record(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    path = Path(module.params["path"])
    text = json.dumps(found, indent=2) + "\n"
    is_changed = not path.is_file() or lasting(json.loads(path.read_text())) != lasting(found)
    if is_changed and not module.check_mode:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)
    module.exit_json(changed=is_changed, record=found)


if __name__ == "__main__":
    main()
