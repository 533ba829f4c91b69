"""Gives a host its certificates in one task: looks, signs here what is due, and installs it.

A host with nothing due costs one look. The module on the host never sees the root's key, and this side never sees a host's key.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
name: tls_identity
short_description: Certificates of one host, signed by the environment's own root
options:
  state: {description: V(installed), or V(applied) for services that run to take what is installed., choices: [installed, applied], default: installed}
  authority: {description: Folder of the certificate authority on the control machine., required: true}
  environment: {description: Name of the environment., required: true}
  root_days: {description: Days that a new root is valid., required: true}
  days: {description: Days that a new certificate is valid., required: true}
  renewal_share: {description: Share of its life that a certificate has left when it is replaced., required: true}
  host: {description: The host's name., required: true}
  table: {description: What there is to be., required: true}
  tiers: {description: Tiers of the host., required: true}
  names: {description: Names and addresses by which others reach the host., required: true}
  further_names: {description: Further names by the table's word C(also)., required: true}
  directory: {description: Folder of the identities on the host., required: true}
  applied: {description: Identities whose rule is to be followed., default: []}
"""


class ActionModule(ActionBase):
    """Lets the module look and install; decides and signs in between."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        {"state", "authority", "environment", "root_days", "days", "renewal_share", "host", "directory"}
        | {"table", "tiers", "names", "further_names", "applied"}
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, sign what is due, install."""
        super().run(tmp, task_vars)
        options, variables = self._task.args, task_vars or {}
        mine = of_host(options["table"], options["tiers"])
        common = {
            "directory": options["directory"],
            "identities": {name: {key: one.get(key) for key in ("group", "apply")} for name, one in mine.items()},
        }
        if options.get("state") == "applied":
            done: dict[str, Any] = self._call({**common, "state": "applied", "applied": options["applied"]}, variables)
            return done
        library = certificate_authority()
        authority = library.Authority(Path(options["authority"]), options["environment"], int(options["root_days"]))
        if self._task.check_mode and not authority.exists():
            return {"changed": True, "pending": [], "roles": [], "issued": sorted(mine)}
        try:
            return self._install(library, authority, common, variables)
        except library.AuthorityError as error:
            raise AnsibleActionFail(str(error)) from error

    def _install(
        self, library: Any, authority: Any, common: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        options = self._task.args
        identities = {name: identity(library, name, options) for name in common["identities"]}
        look = self._call({**common, "state": "look"}, variables)
        if look.get("failed"):
            return look
        share = float(options["renewal_share"])
        reasons = {
            name: reason
            for name, one in identities.items()
            if (reason := authority.why_due(look["certificates"][name], one, share))
        }
        # A host that lacked a certificate has sent its request with the look.
        requests = look["requests"]
        if (others := sorted(set(reasons) - set(requests))) and not self._task.check_mode:
            requests |= self._call({**common, "state": "look", "requests": others}, variables)["requests"]
        days = int(options["days"])
        new = {name: authority.sign(requests[name], identities[name], days) for name in reasons if name in requests}
        result = self._call(
            {
                **common,
                "state": "installed",
                "certificates": new,
                "bundle": authority.bundle(),
            },
            variables,
        )
        if result.get("failed"):
            return result
        lines = [
            *(f"{name}: new certificate ({reason})" for name, reason in sorted(reasons.items())),
            *(f"{name}: owner, group or mode" for name in look["repaired"]),
            *(f"{name}: removed, this host is no longer one" for name in result["removed"]),
            *(["ca.pem: other roots are trusted"] if result["trusted"] else []),
        ]
        return {
            "changed": bool(reasons or look["changed"] or result["changed"]),
            "issued": sorted(reasons),
            "pending": result["pending"],
            "roles": [
                {"identity": name, **rule}
                for name in result["pending"]
                if (rule := common["identities"][name]["apply"] or {}).get("role")
            ],
            "diff": [{"prepared": "\n".join(lines) + "\n"}] if lines else [],
        }

    def _call(self, arguments: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module("tls_identity", dict(arguments), task_vars=variables)
        return done


def certificate_authority() -> Any:
    """Load the role's library, which is in no package."""
    path = Path(__file__).parents[1] / "module_utils/certificate_authority.py"
    specification = importlib.util.spec_from_file_location("cpq_certificate_authority", path)
    if specification is None or specification.loader is None:
        raise AnsibleActionFail(f"{path} is missing")
    library = importlib.util.module_from_spec(specification)
    # Its dataclasses look their own module up.
    sys.modules[specification.name] = library
    specification.loader.exec_module(library)
    return library


def of_host(table: Mapping[str, Any], tiers: Sequence[str]) -> dict[str, Any]:
    """Return the identities of which a host has a tier."""
    return {name: one for name, one in table.items() if set(one["tiers"]) & set(tiers)}


def identity(library: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Return what the certificate of one of the host's identities says."""
    declared = options["table"][name]
    further = options["further_names"][declared["also"]] if declared.get("also") else ()
    return library.Identity(
        component=name,
        host=options["host"],
        environment=options["environment"],
        tier=next(tier for tier in declared["tiers"] if tier in options["tiers"]),
        names=(*options["names"], *further),
        usage=declared["usage"],
    )
