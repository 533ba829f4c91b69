#!/usr/bin/python
"""Ansible module: bring several systemd units to their declared state in one task.

One task per unit costs half a second each over ssh, on every host; a role's units cost the same as one here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_set
short_description: Bring several systemd units to their declared state, in the order given
options:
  units:
    description: >-
      Each entry has C(name) with its suffix, C(state), which is V(started), V(restarted) or V(stopped), and C(enabled), without which
      nobody asks whether the unit starts with the host. Neighbours with the same state are brought there together.
    type: list
    elements: dict
    required: true
    options:
      name: {description: The unit., type: str, required: true}
      state: {description: What it shall be., type: str, choices: [started, restarted, stopped], required: true}
      enabled: {description: Whether it starts with the host., type: bool}
  daemon_reload: {description: Read unit files anew before anything else., type: bool, default: false}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Start the server and what looks after it
  unit_set:
    units:
      - {name: example.service, state: "{{ 'restarted' if __example_files.changed else 'started' }}", enabled: true}
      - {name: example-cleanup.timer, state: started, enabled: true}
    daemon_reload: "{{ __example_files.changed }}"
"""

RETURN = r"""
done:
  description: What was done, or would be in check mode, such as C(enable example.service), in the order in which it was done.
  returned: always
  type: list
"""

VERBS = {"started": "start", "restarted": "restart", "stopped": "stop"}
RUNNING = frozenset({"active", "reloading", "activating"})
# Units of the other words, such as static ones, start with the host by another's wish or not at all.
ENABLED = frozenset({"enabled", "enabled-runtime", "linked", "linked-runtime", "alias"})
DISABLED = frozenset({"disabled", "enabled-runtime", "linked", "linked-runtime", ""})


class RefusedError(Exception):
    """The declared state cannot be reached; the message names the unit."""


@dataclass(frozen=True)
class Unit:
    """What systemd says of one unit."""

    load: str
    active: str
    file: str


def parse(shown: str, names: Sequence[str]) -> dict[str, Unit]:
    """Read what `systemctl show` says of some units, in the order in which they were named.

    Raises:
        RefusedError: it says nothing of one.
    """
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.strip().split("\n\n")
    ]
    if len(blocks) != len(names):
        raise RefusedError(f"systemd tells of {len(blocks)} units, {len(names)} were asked for: {', '.join(names)}")
    return {
        name: Unit(block.get("LoadState", ""), block.get("ActiveState", ""), block.get("UnitFileState", ""))
        for name, block in zip(names, blocks, strict=True)
    }


def plan(wanted: Sequence[Mapping[str, Any]], found: Mapping[str, Unit]) -> list[tuple[str, str]]:
    """Return the verbs of systemctl that bring units to their declared state, each with its unit, in order.

    Raises:
        RefusedError: a unit is masked, which a person did on purpose.
    """
    steps: list[tuple[str, str]] = []
    for entry in wanted:
        name, unit = entry["name"], found[entry["name"]]
        if unit.load == "masked" and entry["state"] != "stopped":
            raise RefusedError(f"{name} is masked; find out why, then systemctl unmask {name}")
        if entry["enabled"] is True and unit.file in DISABLED:
            steps.append(("enable", name))
        elif entry["enabled"] is False and unit.file in ENABLED:
            steps.append(("disable", name))
    for entry in wanted:
        is_running = found[entry["name"]].active in RUNNING
        if entry["state"] == "restarted" or is_running != (entry["state"] == "started"):
            steps.append((VERBS[entry["state"]], entry["name"]))
    return steps


def run(module: AnsibleModule) -> list[str]:
    """Look, plan, act; return what was done."""
    wanted = module.params["units"]
    names = [entry["name"] for entry in wanted]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RefusedError(f"declared twice: {', '.join(twice)}")
    if module.params["daemon_reload"] and not module.check_mode:
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    properties = "--property=LoadState,ActiveState,UnitFileState"
    _, shown, _ = module.run_command(["systemctl", "show", properties, *names], check_rc=True)
    found = parse(shown, names)
    # In check mode an earlier task, not yet run, may bring the unit.
    missing = [
        entry["name"] for entry in wanted if found[entry["name"]].load == "not-found" and entry["state"] != "stopped"
    ]
    if missing and not module.check_mode:
        raise RefusedError(f"the host has no unit {', '.join(missing)}")
    steps = plan(wanted, found)
    if not module.check_mode:
        for verb, group in groupby(steps, key=lambda step: step[0]):
            units = [name for _, name in group]
            code, _, err = module.run_command(["systemctl", verb, *units])
            if code != 0:
                raise RefusedError(f"systemctl {verb} {' '.join(units)}: {err.strip()}")
    return [" ".join(step) for step in steps]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": list(VERBS), "required": True},
                    "enabled": {"type": "bool"},
                },
            },
            "daemon_reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        done = run(module)
    except RefusedError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
