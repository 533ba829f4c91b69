"""What the release playbook derives from inventory and facts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TIERS = {"migrate": "admin", "reconcile": "admin", "resume": "admin", "postgresql": "db"}


def release_targets(
    units: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    hostvars: Any,
    facts: str,
    released: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return where each instance of each unit shows its figures, and whether its unit is installed on that host.

    Args:
        units: the deployables, as in app/contracts/units.yml.
        groups: hosts by group; a deployable's group has its name.
        hostvars: the hosts' variables.
        facts: name of the variable that holds what release_facts found on the host.
        released: units that this release has installed since.
    """
    return [
        {
            "unit": unit,
            "instance": instance,
            "host": host,
            "url": f"http://{hostvars[host]['ansible_host']}:{port}/metrics",
            "installed": unit in hostvars[host][facts]["installed"] or unit in released,
        }
        for unit, declared in units.items()
        for host in groups.get(unit, ())
        for instance, port in _instances(unit, declared)
    ]


def release_contracts(groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str) -> dict[str, Any]:
    """Return the topics and event schemas of every release that is installed on some host."""
    return {
        release_id: files
        for host in groups["all"]
        for release_id, files in hostvars[host].get(facts, {}).get("contracts", {}).items()
    }


def release_differs(groups: Mapping[str, Sequence[str]], hostvars: Any, before: str, after: str) -> list[str]:
    """Name what is installed or running otherwise than before, on any host."""
    return [
        f"{host}: {name}"
        for host in groups["all"]
        for kind in ("installed", "services")
        for name in sorted({*hostvars[host][before][kind], *hostvars[host][after][kind]})
        if hostvars[host][before][kind].get(name) != hostvars[host][after][kind].get(name)
        and not name.endswith((".timer", ".target", ".slice"))
        and not name.startswith(("cpq-oms-admin@", "cpq-oms-migrate", "cpq-oms-reconcile", "cpq-oms-resume"))
    ]


def release_hosts_that_differ(groups: Mapping[str, Sequence[str]], hostvars: Any) -> list[str]:
    """Name the hosts where the comparison found an artifact to install or a unit to change."""

    def differs(variables: Any) -> bool:
        release, service = (variables.get(f"{role}_comparison") or {} for role in ("app_release", "app_service"))
        return bool(release.get("due") or release.get("removed") or service.get("diff"))

    return [host for host in groups["all"] if differs(hostvars[host])]


def release_timers(
    hosts: Sequence[str], timers: Sequence[str], hostvars: Any, facts: str, states: Sequence[str]
) -> list[str]:
    """Return host/timer of those timers that are in one of the states on those hosts; unknown where there is none."""
    return [
        f"{host}/{timer}"
        for host in hosts
        for timer in timers
        if hostvars[host][facts]["services"].get(timer, {}).get("state", "unknown") in states
    ]


def release_tier(unit: str) -> str:
    """Return the host group where a systemd unit runs."""
    word = re.split(r"[@.*]", unit.removeprefix("cpq-oms-"))[0]
    return _TIERS.get(word, word)


def _instances(unit: str, declared: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if declared.get("metrics_port"):
        yield unit, declared["metrics_port"]
    for name, instance in (declared.get("instances") or {}).items():
        yield f"{unit}@{name}", instance["metrics_port"]


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "release_contracts": release_contracts,
            "release_differs": release_differs,
            "release_hosts_that_differ": release_hosts_that_differ,
            "release_targets": release_targets,
            "release_tier": release_tier,
            "release_timers": release_timers,
        }
