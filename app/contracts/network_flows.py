"""Who may connect to whom, as typed values, and what follows from it for a host.

The firewall of each host, the zone test and the drift report all ask this module, so that none of them has a table of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from app.contracts.loader import EVERY, Flow, NetworkFlows, Service

ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class Place:
    """Where the hosts of an environment are, and the networks of those outside.

    Attributes:
        hosts: address by host.
        tiers: hosts by tier.
        networks: networks by the word that outsiders use; `anywhere` need not be there.
        shared_addresses: addresses that move between hosts.
    """

    hosts: Mapping[str, str]
    tiers: Mapping[str, Sequence[str]]
    networks: Mapping[str, Sequence[str]]
    shared_addresses: Sequence[str] = ()

    def of_host(self, host: str) -> tuple[str, ...]:
        """Return the tiers of a host."""
        return tuple(tier for tier, hosts in self.tiers.items() if host in hosts)


@dataclass(frozen=True, order=True)
class Rule:
    """Addresses that may connect to ports of a host, or to which the host may connect; no ports: all of the protocol."""

    addresses: tuple[str, ...]
    protocol: str
    ports: tuple[int, ...]
    reason: str


def inbound(flows: NetworkFlows, place: Place, host: str) -> list[Rule]:
    """Return who may connect to a host: a rule for each flow that ends at one of its tiers."""
    rules = [
        Rule(tuple(sorted(sources)), protocol, service.port, flow.reason)
        for flow in flows.flows
        for service in _services_there(flows, flow, place.of_host(host))
        if (sources := _addresses(flows, place, flows.sources(flow), without=host))
        for protocol in service.protocols
    ]
    return list(dict.fromkeys(rules))


def outbound(flows: NetworkFlows, place: Place, host: str) -> list[Rule]:
    """Return where outside of the environment a host may connect to; within it every host judges for itself."""
    tiers = place.of_host(host)
    rules = [
        Rule(tuple(sorted(addresses)), protocol, service.port, flow.reason)
        for flow in flows.flows
        if set(tiers) & set(flows.sources(flow))
        for target in flow.targets
        if target in flows.outsiders and (addresses := _addresses(flows, place, [target]))
        for service in (flows.ports[target][flow.port],)
        for protocol in service.protocols
    ]
    return list(dict.fromkeys(rules))


def may_connect(rules: Iterable[Rule], source: str, protocol: str, port: int) -> bool:
    """Tell whether one of a host's inbound rules lets an address connect."""
    return any(
        rule.protocol == protocol
        and port in rule.ports
        and any(IPv4Address(source) in IPv4Network(network) for network in rule.addresses)
        for rule in rules
    )


def _services_there(flows: NetworkFlows, flow: Flow, tiers: Sequence[str]) -> Iterator[Service]:
    for tier in tiers:
        if EVERY in flow.targets or tier in flow.targets:
            yield flows.services(tier)[flow.port]


def _addresses(flows: NetworkFlows, place: Place, parties: Iterable[str], without: str = "") -> set[str]:
    found: set[str] = set()
    for party in parties:
        if party in flows.outsiders:
            word = flows.outsiders[party].networks
            found.update((ANYWHERE,) if word == "anywhere" else place.networks.get(word, ()))
        else:
            found.update(place.hosts[host] for host in place.tiers.get(party, ()) if host != without)
    # A packet filter takes no set in which one member holds another.
    networks = {address: IPv4Network(address) for address in found}
    return {
        address
        for address, network in networks.items()
        if not any(other != network and network.subnet_of(other) for other in networks.values())
    }
