"""A host's packet filter and place in the network, from the table of flows and the inventory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from app.contracts.loader import NetworkFlows, load_network_flows
from app.contracts.network_flows import Place, Rule, inbound, outbound


@cache
def _flows() -> NetworkFlows:
    return load_network_flows()


def network_place(
    groups: Mapping[str, Sequence[str]],
    hostvars: Any,
    networks: Mapping[str, Sequence[str]],
    shared: Sequence[str] = (),
) -> Place:
    """Return where the hosts are, of those groups that are tiers.

    Args:
        groups: hosts by group.
        hostvars: the hosts' variables.
        networks: those of operators and infrastructure.
        shared: addresses that move between hosts.
    """
    members = {tier: tuple(groups.get(tier, ())) for tier in _flows().tiers}
    hosts = sorted({host for names in members.values() for host in names})
    return Place({host: hostvars[host]["ansible_host"] for host in hosts}, members, networks, tuple(shared))


def tiers(groups: Sequence[str]) -> list[str]:
    """Return those of a host's groups that are tiers; a play may have put it into others."""
    return sorted(set(groups) & set(_flows().tiers))


def firewall_inbound(place: Place, host: str) -> list[dict[str, Any]]:
    """Return who may connect to a host, as the role `firewall` takes it."""
    return [_entry(rule) for rule in inbound(_flows(), place, host)]


def firewall_outbound(place: Place, host: str) -> list[dict[str, Any]]:
    """Return where outside of the environment a host may connect to."""
    return [_entry(rule) for rule in outbound(_flows(), place, host)]


def firewall_inside(place: Place) -> list[str]:
    """Return every address of the environment's hosts."""
    return sorted({*place.hosts.values(), *place.shared_addresses})


def _entry(rule: Rule) -> dict[str, Any]:
    return {
        "addresses": list(rule.addresses),
        "protocol": rule.protocol,
        "ports": list(rule.ports),
        "reason": rule.reason,
    }


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "firewall_inbound": firewall_inbound,
            "firewall_inside": firewall_inside,
            "firewall_outbound": firewall_outbound,
            "network_place": network_place,
            "tiers": tiers,
        }
