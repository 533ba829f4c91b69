"""Judges inventory, variables and bundle before the first host is touched, and reports every problem at once.

Returns what the rest of the release goes by: the bundle's release id and the hosts of each tier.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from roles.app_release.module_utils import bundle_verification

DOCUMENTATION = r"""
name: release_preflight
short_description: Judge inventory, variables and bundle of a release
options:
  bundle: {description: Folder of the bundle; empty for the newest of C(bundles)., required: true}
  bundles: {description: Where bundles are built., required: true}
  environments: {description: The file that says which environments are production., required: true}
  signers: {description: "Public keys of those who may sign a bundle, each C(ssh-ed25519 KEY NAME).", required: true}
  simulator: {description: Whether the bundle must hold the simulator; it must not otherwise., required: true}
  tiers: {description: Host groups that must have a host; the value lists the variables its hosts need., required: true}
"""


class ActionModule(ActionBase):
    """Looks at hostvars and the bundle only: no host, no network."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"bundle", "bundles", "environments", "signers", "simulator", "tiers"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect problems; fail with all of them in one line each."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        problems: list[str] = []
        production = frozenset(
            yaml.safe_load(Path(self._task.args["environments"]).read_text(encoding="utf-8"))["production"]
        )
        groups, hostvars = task_vars["groups"], task_vars["hostvars"]
        bundle = self._task.args["bundle"] or _newest(Path(self._task.args["bundles"]))
        manifest = (
            _manifest(bundle, self._task.args["signers"], problems) if bundle or not self._task.check_mode else {}
        )
        # What lies in a bundle that is not trusted is not believed either.
        settings = _settings(bundle) if manifest else {}
        for tier, variables in self._task.args["tiers"].items():
            hosts = groups.get(tier, [])
            if not hosts:
                problems.append(f"inventory: group {tier} has no host")
            for host in hosts:
                # A variable that looks at other hosts needs hostvars, which hostvars[host] itself does not offer.
                known = {**hostvars.raw_get(host), "hostvars": hostvars, "groups": groups}
                templar = self._templar.copy_with_new_env(available_variables=known)
                missing = [problem for name in variables or () if (problem := _problem(templar, known, name))]
                if not missing and f"app_service_{tier}" in (variables or ()):
                    missing += _unit_problems(templar, known, tier, settings.get(tier))
                problems += [f"inventory: {host} ({tier}): {problem}" for problem in missing]
                problems += [f"inventory: {problem}" for problem in _kind_problems(templar, known, production)]
        if not bundle and self._task.check_mode and not problems:
            message = "would release the bundle that the build makes; there is none yet, so no more can be said"
            return {"changed": True, "bundle": "", "release_id": "", "units": [], "migrations": [], "msg": message}
        if manifest and ("simulator" in manifest["units"]) != boolean(self._task.args["simulator"]):
            has, wanted = ("holds", "has none") if "simulator" in manifest["units"] else ("lacks", "needs it")
            problems.append(
                f"bundle {bundle} {has} the simulator, and this inventory {wanted} (release_simulator): "
                "build the bundle for it (make bundle ENV=the inventory's folder)"
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


def _unit_problems(
    templar: Any, variables: Mapping[str, Any], unit: str, settings: Mapping[str, Any] | None
) -> Iterator[str]:
    """Hold what a unit is given to the names of the bundle's settings, and to the Redis namespace of the environment.

    Args:
        templar: evaluates.
        variables: of the host.
        unit: the deployable.
        settings: its part of the bundle's settings.json; None where the bundle is older than that.
    """
    service = templar.template(variables[f"app_service_{unit}"])
    shared = service.get("environment") or {}
    instances = {
        name: {**shared, **(one.get("environment") or {})} for name, one in (service.get("instances") or {}).items()
    }
    given = {f"{unit}@{name}": environment for name, environment in instances.items()} or {unit: shared}
    for environment in given.values():
        if settings is not None:
            yield from _name_problems([*environment, *(service.get("credentials") or {})], settings)
        yield from _namespace_problems(templar, variables, unit, environment)


def _name_problems(given: Collection[str], settings: Mapping[str, Any]) -> Iterator[str]:
    unknown = sorted({*given} - {*settings})
    lacking = sorted(name for name, about in settings.items() if about["required"] and name not in given)
    for name in unknown:
        near = difflib.get_close_matches(name, lacking or list(settings), n=1)
        yield f"{name} is no setting of this release; {f'is {near[0]} meant?' if near else 'take it away'}"
    for name in lacking:
        yield f"{name} is missing; expected {settings[name]['kind']}; give it in app_service.yml"


def _namespace_problems(
    templar: Any, variables: Mapping[str, Any], unit: str, environment: Mapping[str, Any]
) -> Iterator[str]:
    """Hold a unit to the keys of its own environment, of which APP_ENV is the first part, and to its Redis."""
    name, redis = (templar.template(variables[variable]) for variable in ("cpq_env", "cpq_redis"))
    if environment.get("APP_ENV", name) != name:
        wrong = f"expected {name}, this environment (cpq_env), with which its Redis keys begin; found {environment['APP_ENV']}"
        yield f"redis-namespace: APP_ENV: {wrong}"
    user = templar.template(variables["cpq_units"])[unit].get("redis_user")
    scheme, _, place = str(environment.get("REDIS_URL", "")).partition("://")
    if place and place != f"{user}@{redis}":
        # A password does not belong there, and is not repeated if it is.
        found = re.sub(r"^([^:@]*):[^@]*@", r"\1@", place)
        yield f"redis-namespace: REDIS_URL: expected {scheme}://{user}@{redis} (units.yml, cpq_redis); found {scheme}://{found}"


def _settings(bundle: str) -> dict[str, Any]:
    """Return the settings that a bundle declares, by unit; none of one that is not there or older than the declaration."""
    try:
        declared: dict[str, Any] = json.loads(Path(bundle, "contracts/settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return declared


def _newest(bundles: Path) -> str:
    manifests = sorted(bundles.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    return str(manifests[-1].parent) if manifests else ""


def _manifest(bundle: str, signers: Sequence[str], problems: list[str]) -> dict[str, Any]:
    """Return the manifest of a bundle that was looked at to the last byte and is signed; add what is wrong otherwise."""
    try:
        return bundle_verification.verified_bundle(Path(bundle), signers)
    except bundle_verification.UntrustedError as error:
        problems += [f"signature: {bundle}: {line}" for line in str(error).splitlines()]
    except OSError as error:
        shown = bundle or "dist/"
        problems.append(
            f"no bundle at {shown} ({type(error).__name__}): build it with make bundle, or pass -e release_bundle=DIR"
        )
    return {}


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
