"""Judges inventory, variables and bundle before the first host is touched, and reports every problem at once.

Returns what the rest of the release goes by: the bundle's release id and the hosts of each tier.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
name: release_preflight
short_description: Judge inventory, variables and bundle of a release
options:
  bundle: {description: Folder of the bundle; empty for the newest of C(bundles)., required: true}
  bundles: {description: Where bundles are built., required: true}
  environments: {description: The file that says which environments are production., required: true}
  simulator: {description: Whether the bundle must hold the simulator; it must not otherwise., required: true}
  tiers: {description: Host groups that must have a host; the value lists the variables its hosts need., required: true}
"""


class ActionModule(ActionBase):
    """Looks at hostvars and the bundle only: no host, no network."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"bundle", "bundles", "environments", "simulator", "tiers"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect problems; fail with all of them in one line each."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        problems: list[str] = []
        production = frozenset(
            yaml.safe_load(Path(self._task.args["environments"]).read_text(encoding="utf-8"))["production"]
        )
        groups, hostvars = task_vars["groups"], task_vars["hostvars"]
        for tier, variables in self._task.args["tiers"].items():
            hosts = groups.get(tier, [])
            if not hosts:
                problems.append(f"inventory: group {tier} has no host")
            for host in hosts:
                # A variable that looks at other hosts needs hostvars, which hostvars[host] itself does not offer.
                known = {**hostvars.raw_get(host), "hostvars": hostvars, "groups": groups}
                templar = self._templar.copy_with_new_env(available_variables=known)
                problems += [
                    f"inventory: {host} ({tier}): {problem}"
                    for name in variables or ()
                    if (problem := _problem(templar, known, name))
                ]
                problems += [f"inventory: {problem}" for problem in _kind_problems(templar, known, production)]
        bundle = self._task.args["bundle"] or _newest(Path(self._task.args["bundles"]))
        if not bundle and self._task.check_mode and not problems:
            message = "would release the bundle that the build makes; there is none yet, so no more can be said"
            return {"changed": True, "bundle": "", "release_id": "", "units": [], "migrations": [], "msg": message}
        manifest = _manifest(bundle, problems)
        if manifest and ("simulator" in manifest["units"]) != boolean(self._task.args["simulator"]):
            has, wanted = ("holds", "has none") if "simulator" in manifest["units"] else ("lacks", "needs it")
            problems.append(
                f"bundle {bundle} {has} the simulator, and this inventory {wanted} (release_simulator): "
                "build the bundle for it (make build ENV=the inventory's folder)"
            )
        if problems:
            return {"failed": True, "msg": "\n".join(dict.fromkeys(problems)), "changed": False}
        return {
            "changed": False,
            "bundle": str(bundle),
            "release_id": manifest["release_id"],
            "units": sorted(manifest["units"]),
        }


def _kind_problems(templar: Any, variables: Mapping[str, Any], production: frozenset[str]) -> list[str]:
    """Hold the kind of environment that endpoints must prove to the environment's name: files are copied, names are not."""
    environment, kind = (templar.template(variables[name]) for name in ("cpq_env", "cpq_external_environment"))
    declared = "production" if environment in production else "non-production"
    if kind == declared:
        return []
    wrong = f"expected {declared}, which {environment} is by app/contracts/environments.yml; found: {kind}"
    return [f"cpq_external_environment: {wrong}. Was endpoints.yml copied from another environment?"]


def _newest(bundles: Path) -> str:
    manifests = sorted(bundles.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    return str(manifests[-1].parent) if manifests else ""


def _manifest(bundle: str, problems: list[str]) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(Path(bundle, "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        shown = bundle or "dist/"
        problems.append(
            f"no bundle at {shown} ({type(error).__name__}): build it with make build, or pass -e release_bundle=DIR"
        )
        return {}
    return manifest


def _problem(templar: Any, variables: Mapping[str, Any], name: str) -> str:
    """Say what is wrong with a variable, or nothing. Its value is never part of the message: it may be a secret."""
    if name not in variables:
        # Right names are alike, too: those of two units differ in one short word.
        near = difflib.get_close_matches(name, [str(known) for known in variables], n=1, cutoff=0.9)
        return f"{name} is missing; {f'is {near[0]} meant?' if near else 'add it to group_vars or correct its name'}"
    try:
        value = templar.template(variables[name])
        empty = value is None or str(value) == ""
    except AnsibleError as error:
        return f"{name} cannot be evaluated: {str(error).splitlines()[0]}"
    return f"{name} is empty" if empty else ""
