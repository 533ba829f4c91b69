"""Networks, datagrams, protocols without ports and ways out are rules as well."""

import socket

ADDRESS = "10.56.3.11"


def test_a_port_for_somebody_else_does_not_answer():
    with socket.socket() as client:
        client.settimeout(1)
        assert client.connect_ex((ADDRESS, 7001)) != 0


def test_every_kind_of_rule_is_in_force(host):
    rules = host.check_output("nft list table inet cpq_oms")

    assert 'ip saddr { 10.56.3.0/24, 192.0.2.7 } tcp dport 22 accept comment "administration"' in rules
    assert 'ip saddr 10.56.3.0/24 udp dport 7005 accept comment "datagrams"' in rules
    assert 'ip saddr 10.56.3.12 meta l4proto 112 accept comment "the virtual address"' in rules or (
        'ip saddr 10.56.3.12 meta l4proto vrrp accept comment "the virtual address"' in rules
    )


def test_the_named_way_out_is_open_and_no_other(host):
    # Nobody listens at either port: the first is refused by the other end, the second by this host's own rules.
    shown = host.run("curl -sS --max-time 3 http://10.56.3.1:81/").stderr
    refused = host.run("python3 -c \"import socket; socket.create_connection(('10.56.3.1', 82), 3)\"").stderr

    assert "10.56.3.1" in shown
    assert "ConnectionRefusedError" not in refused
    assert "No route to host" in refused or "Permission" in refused or "unreachable" in refused
