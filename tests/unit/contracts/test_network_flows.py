from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from app.contracts import loader
from app.contracts.network_flows import ANYWHERE, Place, inbound, may_connect, outbound

ROOT = Path(__file__).resolve().parents[3]
OPERATORS = "198.51.100.1"
CLIENT = "203.0.113.9"
FLOWS = loader.load_network_flows()


def place(inventory: str = "staging") -> Place:
    document = yaml.safe_load((ROOT / "inventories" / inventory / "hosts.yml").read_text())["all"]
    return Place(
        hosts={host: values["ansible_host"] for host, values in document["hosts"].items()},
        tiers={tier: tuple(members["hosts"]) for tier, members in document["children"].items()},
        networks={"operations": [f"{OPERATORS}/32"], "infrastructure": ["198.51.100.2"]},
    )


def reached(source: str, inventory: str = "staging") -> set[tuple[str, int]]:
    """Every host and declared TCP port that an address may connect to."""
    where = place(inventory)
    ports = {port for services in FLOWS.ports.values() for service in services.values() for port in service.port}
    rules = {host: inbound(FLOWS, where, host) for host in where.hosts}
    return {(host, port) for host in where.hosts for port in ports if may_connect(rules[host], source, "tcp", port)}


def test_every_group_of_every_inventory_is_a_tier() -> None:
    for path in sorted((ROOT / "inventories").glob("*/hosts.yml")):
        assert set(yaml.safe_load(path.read_text())["all"]["children"]) == set(FLOWS.tiers), path


def test_ports_of_units_come_from_their_declaration() -> None:
    assert FLOWS.services("api")["http"].port == (8080,)
    assert FLOWS.services("worker")["metrics"].port == (9110, 9111, 9112)
    assert FLOWS.services("redis")["ssh"].port == (22,)


def test_clients_reach_the_edges_and_nothing_else() -> None:
    assert reached(CLIENT) == {("edge-1", 443), ("edge-2", 443)}


def test_nobody_but_operations_reaches_figures_and_consoles() -> None:
    where = place()
    ports = {
        port
        for services in FLOWS.ports.values()
        for name in FLOWS.operations_only
        if name in services
        for port in services[name].port
    }
    operations = {where.hosts[host] for host in ("admin-1", "observability-1")}

    found = {
        (host, port) for address in where.hosts.values() if address not in operations for host, port in reached(address)
    }

    assert {(host, port) for host, port in found if port in ports} == set()
    assert ("api-1", 9100) in reached(where.hosts["observability-1"])
    assert ("api-1", 22) in reached(OPERATORS)


def test_workers_have_no_port_but_for_operations() -> None:
    where = place()
    rules = inbound(FLOWS, where, "worker-1")

    assert {port for rule in rules for port in rule.ports} == {22, 9101, 9110, 9111, 9112}


def test_an_edge_reaches_api_and_receivers_and_no_state() -> None:
    assert {host for host, port in reached("198.51.100.11") if port not in (443, 4318, 19532)} == {
        "api-1", "api-2", "callback-1", "callback-2",
    }  # fmt: skip


def test_a_host_of_several_tiers_has_the_rules_of_all_of_them() -> None:
    where = place("dev")
    tiers = {host: where.of_host(host) for host in where.hosts}
    shared = next(host for host, of_host in tiers.items() if len(of_host) > 1)

    ports = {port for rule in inbound(FLOWS, where, shared) for port in rule.ports}

    for tier in tiers[shared]:
        assert {22, *(port for service in FLOWS.ports.get(tier, {}).values() for port in service.port)} & ports


def test_only_some_tiers_have_a_way_out() -> None:
    where = place()

    assert [rule.addresses for rule in outbound(FLOWS, where, "worker-1") if rule.ports == (443,)] == [(ANYWHERE,)]
    assert not any(ANYWHERE in rule.addresses for rule in outbound(FLOWS, where, "db-1"))
    assert ("198.51.100.2",) in {rule.addresses for rule in outbound(FLOWS, where, "db-1")}


def test_an_address_is_not_named_beside_a_network_that_holds_it() -> None:
    where = place()
    networks = {"operations": ["198.51.100.0/24", "198.51.100.1/32"], "infrastructure": []}
    wide = Place(where.hosts, where.tiers, networks)

    figures = [rule for rule in inbound(FLOWS, wide, "api-1") if rule.ports == (9100,)]

    assert [rule.addresses for rule in figures] == [("198.51.100.0/24",)]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  edge: public", "  edge: outside", "tiers.edge: 'outside' is not among zones"),
        ("  redis:\n    redis:", "  rediss:\n    redis:", "ports.rediss: is neither a tier nor an outsider"),
        ("{from: [edge], to: [api], port: http", "{from: [egde], to: [api], port: http", "egde: neither a tier nor"),
        ("{from: [edge], to: [api], port: http", "{from: [edge], to: [api], port: https", "api has no port https"),
        ("  edge:\n    https: 443", "  api:\n    http: 8080\n  edge:\n    https: 443", "ports.api.http: is declared in units.yml"),
        ("{from: [operators], to: [every], port: ssh", "{from: [api], to: [every], port: ssh", "api may not reach ssh"),
        ("{from: [edge], to: [api], port: http", "{from: [clients, edge], to: [api], port: http", "clients may reach the public zone only"),
        ("{from: [api, admin], to: [redis], port: redis,", "{from: [api, admin], to: [redis], port: ssh,", "ports.redis.redis: no flow leads there"),
        ("controller: 9093", "controller: 90930", "ports.kafka.controller"),
        ("controller: 9093", "controller: {port: 9093, protocols: [sctp]}", "ports.kafka.controller.protocols"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    for name in ("network_flows.yml", "units.yml"):
        shutil.copy(loader.DIRECTORY / name, tmp_path)
    path = tmp_path / "network_flows.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(loader.ContractError) as refused:
        loader.load_network_flows(tmp_path)

    assert problem in str(refused.value)
