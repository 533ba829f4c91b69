"""Who gets through to which port of which host, tried on the network, beside what the table of flows says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path

from app.contracts.loader import NetworkFlows, load_network_flows
from app.contracts.network_flows import Place, inbound, may_connect
from tests.support import port_probe
from tests.support.rehearsal import Rehearsal

# Address, protocol and port, and how it answered (port_probe.py).
Port = tuple[str, str, int]
Found = dict[Port, str]

# Ports that no host may be reached at: beside declared ones, of well-known services, and of nobody.
UNDECLARED = {"tcp": {1, 80, 111, 5433, 8081, 8404, 26510, 40000}, "udp": {53, 123, 5353, 26501}}
# The kernel asks once more after one second, and again after another two.
PROBE_SECONDS = 3.5
# Who asks at the same time: enough to keep the machine at work, few enough for no packet to be lost.
AT_ONCE = 13
PROBE = Path(port_probe.__file__).read_text()


def declared(flows: NetworkFlows, protocol: str) -> set[int]:
    """Return every port that a tier has by the table."""
    return {
        port
        for party, services in flows.ports.items()
        if party not in flows.outsiders
        for service in services.values()
        if protocol in service.protocols
        for port in service.port
    }


@dataclass(frozen=True)
class Matrix:
    """The hosts of a rehearsal and the table that they are held to.

    Args:
        rehearsal: where to try.
        flows: the table.
        protocols: what to try. Datagrams say something only where something on each port sends them back.
    """

    rehearsal: Rehearsal
    flows: NetworkFlows
    protocols: Sequence[str] = ("tcp",)

    def by(self, flows: NetworkFlows) -> Matrix:
        """Return the same beside another table."""
        return replace(self, flows=flows)

    @cached_property
    def place(self) -> Place:
        """Where the hosts are."""
        variables = self.rehearsal.variables
        networks = {
            "operations": variables["cpq_operations_networks"],
            "infrastructure": variables["cpq_infrastructure_networks"],
        }
        tiers = {tier: tuple(hosts) for tier, hosts in self.rehearsal.groups.items()}
        return Place(self.rehearsal.hosts, tiers, networks, (variables["cpq_edge_address"],))

    @cached_property
    def ports(self) -> Mapping[str, list[int]]:
        """Every port that is tried, by protocol."""
        table = load_network_flows()
        return {protocol: sorted(declared(table, protocol) | UNDECLARED[protocol]) for protocol in self.protocols}

    @cached_property
    def operator(self) -> str:
        """An address of the operations zone that is no host's: the control machine's."""
        return str(self.place.networks["operations"][0]).partition("/")[0]

    @cached_property
    def outside(self) -> str:
        """An address that is nobody's. It is beside the hosts, which have no way to anybody farther off and could not answer there."""
        return str(IPv4Network(self.rehearsal.variables["cpq_subnet"]).broadcast_address - 1)

    def seen(self, host: str) -> Found:
        """Return what a host finds open elsewhere."""
        asked = self._question("", self._targets(self.place.hosts[host]))
        return self._answers(self.rehearsal.run(host, f"python3 - '{asked}'", standard_input=PROBE).stdout)

    def seen_by_operator(self) -> Found:
        """Return what the control machine finds open."""
        return self._seen_here(self.operator)

    def seen_from_outside(self) -> Found:
        """Return what somebody finds open who is neither host nor operator."""
        with self._somebody_outside():
            return self._seen_here(self.outside)

    def seen_from_everywhere(self) -> dict[str, Found]:
        """Return what every host, the control machine and somebody outside find open, by address."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(self.seen, self.place.hosts))
        found = dict(zip(self.place.hosts.values(), answers, strict=True))
        return {**found, self.operator: self.seen_by_operator(), self.outside: self.seen_from_outside()}

    def allowed(self, source: str) -> set[Port]:
        """Return what the table lets an address connect to."""
        edge = self.place.tiers["edge"][0]
        holders = {**dict.fromkeys(self.place.shared_addresses, edge)}
        holders |= {address: host for host, address in self.place.hosts.items()}
        rules = {host: inbound(self.flows, self.place, host) for host in self.place.hosts}
        return {
            (address, rule.protocol, port)
            for address in self._targets(source)
            for rule in rules[holders[address]]
            for port in rule.ports
            if port in self.ports.get(rule.protocol, ()) and may_connect([rule], source, rule.protocol, port)
        }

    def differences(self, found: Mapping[str, Found]) -> list[str]:
        """Return what differs from the table, in either direction."""
        names = {
            **dict.fromkeys(self.place.shared_addresses, "the edges' address"),
            **{address: host for host, address in self.place.hosts.items()},
            self.operator: "an operator",
            self.outside: "somebody outside",
        }
        return [
            f"{names[source]} -> {names[address]}:{port}{'' if protocol == 'tcp' else f'/{protocol}'} "
            f"is {'open' if (address, protocol, port) in ports else 'closed'}"
            for source, ports in found.items()
            for address, protocol, port in sorted(ports.keys() ^ self.allowed(source))
        ]

    def _targets(self, source: str) -> list[str]:
        # Nobody asks itself, and an edge that holds the common address would.
        edges = {self.place.hosts[edge] for edge in self.place.tiers["edge"]}
        shared = [] if source in edges else self.place.shared_addresses
        return [*(address for address in self.place.hosts.values() if address != source), *shared]

    def _question(self, source: str, addresses: Sequence[str]) -> str:
        asked = {"source": source, "addresses": addresses, "ports": self.ports, "seconds": PROBE_SECONDS}
        return json.dumps(asked)

    def _seen_here(self, source: str) -> Found:
        asked = self._question(source, self._targets(source))
        return self._answers(self.rehearsal.in_namespace(["python3", "-", asked], standard_input=PROBE).stdout)

    @staticmethod
    def _answers(said: str) -> Found:
        return {(address, protocol, port): answer for address, protocol, port, answer in json.loads(said)}

    @contextmanager
    def _somebody_outside(self) -> Iterator[None]:
        """Give the rehearsal's network somebody who has that address."""
        address = ["ip", "address"]
        self.rehearsal.in_namespace([*address, "add", f"{self.outside}/32", "dev", "lo"])
        try:
            yield
        finally:
            self.rehearsal.in_namespace([*address, "delete", f"{self.outside}/32", "dev", "lo"])
