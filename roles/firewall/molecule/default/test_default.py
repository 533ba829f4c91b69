"""What is named gets in, and nothing else; the rules come back with the host."""

import socket
import struct

ADDRESS = "10.56.3.11"
LISTEN = "systemd-run --quiet --collect --unit=listener-{port} python3 -m http.server {port} --bind 0.0.0.0"


def answers(port):
    """Tell whether the port answers with a connection or with a refusal; a dropped packet has no answer."""
    try:
        socket.create_connection((ADDRESS, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def test_only_named_ports_answer():
    assert [port for port in (22, 80, 7001, 7002, 7003, 26500) if answers(port)] == [22, 7001, 7002]


def test_a_service_on_another_port_is_not_reached(host):
    host.check_output(LISTEN.format(port=7003))
    try:
        assert (
            host.run(
                "for i in 1 2 3 4 5 6 7 8 9 10; do curl -fsS -o /dev/null http://127.0.0.1:7003/ && exit 0; sleep 0.3; done; exit 1"
            ).rc
            == 0
        )
        assert not answers(7003)
    finally:
        host.run("systemctl stop listener-7003")


def test_the_host_hears_at_once_that_it_may_not_go_out(host):
    assert host.run("curl -sS --max-time 3 http://10.56.3.1:81/").rc == 7


def test_an_echo_is_answered():
    # Type 8, its checksum, identifier 1, sequence 1.
    request = struct.pack("!BBHHH", 8, 0, 0xFFFF - (0x0800 + 1 + 1), 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(2)
        raw.sendto(request, (ADDRESS, 0))
        answer, sender = raw.recvfrom(1024)

    assert (sender[0], answer[20]) == (ADDRESS, 0)


def test_rules_come_back_with_the_host(host):
    assert host.service("nftables.service").is_enabled
    host.check_output("nft delete table inet cpq_oms && systemctl restart nftables.service")
    assert not answers(7003)


def test_no_rollback_is_due_and_other_tables_are_left_alone(host):
    assert not host.service("cpq-oms-firewall-rollback.timer").is_running
    host.check_output("nft add table inet others && nft -f /etc/nftables.conf")
    assert "table inet others" in host.check_output("nft list tables")
    host.check_output("nft delete table inet others")
