"""What Prometheus looks at, from the inventory: every instance of every unit, every host, every service that tells of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HOST_PORT, _POSTGRESQL_PORT, _REDIS_PORT = "exporters_node_port", "exporters_postgresql_port", "exporters_redis_port"
_DEFAULTS = {_HOST_PORT: 9101, _POSTGRESQL_PORT: 9187, _REDIS_PORT: 9121}


def monitoring_targets(
    units: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    hostvars: Any,
    services: Mapping[str, Mapping[str, Any]],
    installed: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    """Return targets by job.

    Args:
        units: the deployables, as in app/contracts/units.yml.
        groups: hosts by group; a deployable's group has its name.
        hostvars: the hosts' variables.
        services: other services that show figures, by job: the group of their hosts, and the port.
        installed: units of the bundles of this environment.
    """

    def target(host: str, port: int, **labels: str) -> dict[str, Any]:
        return {"address": f"{hostvars[host]['ansible_host']}:{port}", "labels": {"host": host, **labels}}

    def of_exporter(variable: str, hosts: Sequence[str]) -> list[dict[str, Any]]:
        return [target(host, hostvars[host].get(variable, _DEFAULTS[variable])) for host in hosts]

    tiers = {
        host: ",".join(
            sorted(
                group
                for group, hosts in groups.items()
                if host in hosts and group not in {"all", "ungrouped", "console"}
            )
        )
        for host in groups["all"]
    }
    targets = {
        "host": [
            target(host, hostvars[host].get(_HOST_PORT, _DEFAULTS[_HOST_PORT]), tier=tiers[host])
            for host in groups["all"]
        ],
        "postgresql": of_exporter(_POSTGRESQL_PORT, groups["db"]),
        "redis": of_exporter(_REDIS_PORT, groups["redis"]),
        "unit": [
            target(host, port, unit=name)
            for unit, declared in units.items()
            if unit in installed
            for host in groups.get(unit, ())
            for name, port in _instances(unit, declared)
        ],
    }
    for job, about in services.items():
        targets[job] = [target(host, about["port"]) for host in groups[about["group"]]]
    return {job: found for job, found in targets.items() if found}


def _instances(unit: str, declared: Mapping[str, Any]) -> list[tuple[str, int]]:
    own = [(unit, declared["metrics_port"])] if declared.get("metrics_port") else []
    instances = declared.get("instances") or {}
    return own + [(f"{unit}@{name}", instance["metrics_port"]) for name, instance in instances.items()]


class FilterModule:
    """Registers the filter."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by name."""
        return {"monitoring_targets": monitoring_targets}
