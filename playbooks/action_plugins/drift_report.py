"""Holds what hosts and the operators' command have seen to what is declared, or to another environment; keeps it and reports."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

DOCUMENTATION = r"""
name: drift_report
short_description: Write the report of a comparison of declared with live, or of two environments
options:
  folder: {description: Where report.txt, report.json and report.html are written, and live.json, the recording., required: true}
  environment: {description: Its name., required: true}
  release_id: {description: The release whose bundle it was compared with., required: true}
  hosts: {description: Every host that was to be looked at., required: true}
  admin: {description: The host of operators' commands., required: true}
  against: {description: Recording of the environment to compare with in place of the declared., default: ""}
  tolerances: {description: What two environments may differ in., required: true}
  releases: {description: Where releases leave their reports; the newest is told what was found., required: true}
"""

CHECKOUT = Path(__file__).resolve().parents[2]
# Which role brings the packages of a tier; every host has those of the first.
PACKAGE_ROLES = {
    "all": "host_base",
    "db": "postgresql",
    "redis": "redis",
    "kafka": "kafka",
    "zeebe": "zeebe",
    "observability": "prometheus",
}
OF = ("state", "presence", "any")
SYSCTL_FILE = "/etc/sysctl.d/50-cpq-oms.conf"


def _load(name: str) -> ModuleType:
    """Import a module of playbooks/module_utils, which on this machine is no package."""
    specification = importlib.util.spec_from_file_location(name, CHECKOUT / f"playbooks/module_utils/{name}.py")
    if specification is None or specification.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


planes, documents, pages = _load("drift_planes"), _load("drift_documents"), _load("release_page")


class ActionModule(ActionBase):
    """Reads hostvars alone."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        {"folder", "environment", "release_id", "hosts", "admin", "against", "tolerances", "releases"}
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write recording and report; a difference is no failure of this task, and is told by the report."""
        super().run(tmp, task_vars)
        hostvars = (task_vars or {})["hostvars"]
        options = self._task.args
        hosts = {host: hostvars[host] for host in options["hosts"]}
        declared = {host: self._declared(host, hostvars) for host in hosts}
        report = summarize(hosts, declared, options["admin"])
        report |= {
            "environment": options["environment"],
            "release_id": options["release_id"],
            "taken_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        folder = Path(options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        # What was recorded before is more than nothing at all.
        if any(report["hosts"].values()):
            (folder / "live.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        if options.get("against"):
            report |= against(report, recording(Path(options["against"])), tolerances(Path(options["tolerances"])))
        (folder / "report.json").write_text(
            json.dumps({name: value for name, value in report.items() if name != "hosts"}, indent=2) + "\n",
            encoding="utf-8",
        )
        (folder / "report.txt").write_text(documents.as_text(report), encoding="utf-8")
        (folder / "report.html").write_text(documents.as_html(report), encoding="utf-8")
        if not options.get("against"):
            self._tell_release(Path(options["releases"]), report)
        return {"changed": False, "findings": len(report["findings"]), "unseen": len(report["unseen"])}

    @staticmethod
    def _tell_release(releases: Path, report: dict[str, Any]) -> None:
        """Add it to the report of the newest release; one that another version of this code wrote may be of another form."""
        try:
            pages.told_of_drift(releases, report)
        except (OSError, ValueError, KeyError, TypeError) as error:
            Display().warning(f"{releases}: the report of the newest release cannot be told of this: {error!r}")

    def _declared(self, host: str, hostvars: Any) -> dict[str, Any]:
        """Return by plane what the inventory and the roles declare for a host."""
        variables = hostvars[host]
        tiers = variables["group_names"]
        sysctl = self._of_role("host_base", "host_base_sysctl", host, hostvars)
        file = "".join(f"{name} = {value}\n" for name, value in sorted(sysctl.items()))
        services = [unit for tier, unit in planes.SERVICES.items() if tier in tiers]
        roles = [role for tier, role in PACKAGE_ROLES.items() if tier in {*tiers, "all"}]
        names = {"host_base": "host_base_packages"}
        declared: dict[str, Any] = {
            "sysctl": {name: str(value) for name, value in sysctl.items()} | {SYSCTL_FILE: file},
            "packages": sorted(
                {
                    name
                    for role in roles
                    for name in self._of_role(role, names.get(role, f"__{role}_packages"), host, hostvars)
                }
            ),
            "units": {"services": services, "drop_ins": list(_drop_ins())},
            # That of an edge which is closing is there for seconds; where it stays, nobody is heard.
            "nftables": ["table inet cpq_oms"] if variables["cpq_firewall"] else [],
            "certificates": _identities(tiers) if variables["cpq_tls"] else [],
        }
        if "db" in tiers:
            given = (
                self._of_role("postgresql", "__postgresql_settings", host, hostvars) | variables["postgresql_settings"]
            )
            declared["postgresql-settings"] = {
                name: planes.setting_text(value) for name, value in given.items() if name not in UNSAID_SETTINGS
            }
        database = variables["groups"]["db"][0]
        logins = [*hostvars[database]["postgresql_roles"]]
        if self._of_role("postgresql", "__postgresql_is_cluster", database, hostvars):
            copying = self._of_role("postgresql", "__postgresql_replication_role", database, hostvars)
            logins.append({"name": copying, "may_replicate": True})
        declared["postgresql-roles"] = {role["name"]: planes.role_text(role) for role in logins}
        redis = hostvars[variables["groups"]["redis"][0]]
        declared["redis-policy"] = planes.policy_texts(redis["redis_max_memory"], redis["redis_eviction"])
        return declared

    def _of_role(self, role: str, name: str, host: str, hostvars: Any) -> Any:
        """Return a variable of a role as the role would see it on a host."""
        defaults, own = (self._variables(role, folder) for folder in ("defaults", "vars"))
        seen = {**defaults, **hostvars.raw_get(host), "hostvars": hostvars, "groups": hostvars[host]["groups"], **own}
        return self._templar.copy_with_new_env(available_variables=seen).template(seen[name])

    def _variables(self, role: str, folder: str) -> dict[str, Any]:
        path = CHECKOUT / "roles" / role / folder / "main.yml"
        return (self._loader.load_from_file(str(path), trusted_as_template=True) or {}) if path.exists() else {}


# The server shows these of the session that asks, or by another word.
UNSAID_SETTINGS = frozenset(
    {
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
        "timezone",
        "wal_compression",
    }
)


def _drop_ins() -> Iterator[str]:
    """Yield the ends of the paths at which roles write drop-ins; a role's path in files or templates is that on the host."""
    for path in CHECKOUT.glob("roles/*/*/etc/systemd/system/*.d/*"):
        yield "/" + "/".join(path.parts[-2:]).removesuffix(".j2")


def _identities(tiers: list[str]) -> list[str]:
    document = yaml.safe_load((CHECKOUT / "app/contracts/identities.yml").read_text(encoding="utf-8"))
    return sorted(name for name, one in document["identities"].items() if {*one["tiers"]} & {*tiers})


def recording(path: Path) -> dict[str, Any]:
    """Read what an earlier look at an environment has kept."""
    if not path.is_file():
        raise AnsibleActionFail(
            f"{path}: nothing was recorded of that environment yet; run make drift for it while it is up"
        )
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def tolerances(path: Path) -> list[dict[str, str]]:
    """Read what two environments may differ in; each entry has plane, item, of and reason."""
    entries: list[dict[str, str]] = yaml.safe_load(path.read_text(encoding="utf-8"))["tolerances"]
    for entry in entries:
        if (
            {*entry} != {"plane", "item", "of", "reason"}
            or entry["plane"] not in planes.PLANES
            or entry["of"] not in OF
        ):
            raise AnsibleActionFail(
                f"{path}: {entry}: expected plane (of docs/drift.md), item, of ({', '.join(OF)}) and reason"
            )
    return entries


def against(report: Mapping[str, Any], other: Mapping[str, Any], allowed: list[dict[str, str]]) -> dict[str, Any]:
    """Return what replaces findings when the environment is held to another one in place of the declared."""
    found, tolerated = planes.between(report, other, allowed)
    unseen = [*report["unseen"], *planes.unseen_between(report, other)]
    return {
        "against": other["environment"],
        "against_taken_at": other["taken_at"],
        "findings": found,
        "tolerated": tolerated,
        "unseen": unseen,
    }


def summarize(
    hosts: Mapping[str, Mapping[str, Any]], declared: Mapping[str, Mapping[str, Any]], admin: str
) -> dict[str, Any]:
    """Return findings, unseen planes and all that was seen, as JSON values."""
    findings: list[dict[str, str]] = []
    unseen: list[dict[str, str]] = []
    seen: dict[str, dict[str, Any]] = {}
    for host, variables in hosts.items():
        look = variables.get("drift_live") or {}
        if "live" not in look:
            reason = _line(look.get("msg") or "it did not answer")
            unseen.append({"host": host, "plane": "every plane of the host", "reason": reason})
            continue
        seen[host] = dict(look["live"])
        unseen += [{"host": host, "plane": plane, "reason": why} for plane, why in look["unseen"].items()]
        for plane, comparison in COMPARISONS.items():
            result = variables.get(comparison)
            if result is None or result.get("failed"):
                if plane == "nftables" and not variables.get("cpq_firewall"):
                    continue
                if plane == "nftables" or variables.get("release_host_units"):
                    reason = _line((result or {}).get("msg") or "the comparison did not come to an end")
                    unseen.append({"host": host, "plane": plane, "reason": reason})
                continue
            findings += planes.of_role(host, plane, result)
        if host == admin:
            services = _services(variables)
            unseen += [{"host": host, "plane": plane, "reason": why} for plane, why in services["unseen"].items()]
            seen[host] |= services["live"]
            findings += [planes.finding(host=host, **one) for one in services["differences"]]
        findings += planes.judge(host, declared[host], seen[host])
    findings += planes.versions_within(seen)
    return {
        "against": "",
        "findings": findings,
        "unseen": unseen,
        "tolerated": [],
        "hosts": seen,
        "planes": list(planes.PLANES),
    }


# What roles compare in check mode, by the variable in which they leave it.
COMPARISONS = {
    "artifacts": "app_release_comparison",
    "unit-files": "app_service_comparison",
    "nftables": "firewall_comparison",
}
SERVICE_PLANES = (
    *(
        "postgresql-roles",
        "postgresql-grants",
        "postgresql-schema",
        "postgresql-indexes",
        "migrations",
        "kafka-topics",
        "kafka-access",
    ),
    *("kafka-groups", "redis-policy", "redis-users", "redis-keys", "bpmn", "job-types", "flags", "catalog"),
)


def _line(message: Any) -> str:
    """Return what a message begins with; the playbook shows all of it."""
    return str(message).strip().partition("\n")[0]


def _services(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the operators' command has seen; without its answer none of its planes."""
    answer = variables.get("drift_services") or {}
    result = (answer.get("by_command") or {}).get("drift")
    if result and "live" in result["data"]:
        return dict(result["data"])
    reason = "; ".join((result or {}).get("problems") or []) or _line(answer.get("msg") or "the command gave no answer")
    return {"live": {}, "differences": [], "unseen": dict.fromkeys(SERVICE_PLANES, reason)}
