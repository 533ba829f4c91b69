"""Clients get what is theirs and nothing else; a stop and a reload lose no request."""

import http.client
import json
import socket
import ssl
import subprocess
import threading
import time

import pytest

ADDRESS = "10.56.3.10"


def trusting():
    """The edge's certificate is its own: whether it is the right one is not what these tests are about."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect():
    return http.client.HTTPSConnection(ADDRESS, 443, timeout=10, context=trusting())


def ask(path, method="GET", body=None, headers=None):
    connection = connect()
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def at_rest(host):
    """Every test begins with an edge that runs, has its servers and holds the address."""
    host.check_output("systemctl start haproxy keepalived answer@8080 answer@8085")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        held = ADDRESS in host.check_output("ip -4 address show")
        if held and host.run("curl -fs http://127.0.0.1:8406/ready").rc == 0 and ask("/v1/callbacks/x/y")[0] == 200:
            return
        time.sleep(0.3)
    pytest.fail(host.check_output("journalctl --no-pager --lines=40 --unit=haproxy --unit=keepalived"))


def test_units_run_and_start_with_the_host(host):
    for unit in ("haproxy.service", "keepalived.service"):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled


def test_the_units_are_shut_in(host):
    assert host.run("systemd-analyze security --threshold=20 haproxy.service").rc == 0


def test_requests_are_spread_and_callbacks_go_to_their_receivers():
    assert {ask("/v1/quotes")[1].split()[0] for _ in range(6)} == {"127.0.0.2", "127.0.0.3"}
    assert ask("/v1/callbacks/payment/acme", "POST", b"{}") == (200, "127.0.0.2 POST /v1/callbacks/payment/acme\n")


@pytest.mark.parametrize(
    "path",
    ["/", "/metrics", "/health/ready", "/health/diagnostics", "/v1/../metrics", "/v1/%2e%2e/metrics", "/v1callbacks"],
)
def test_what_is_not_for_clients_does_not_exist(path):
    status, body = ask(path)

    assert (status, json.loads(body)["code"]) == (404, "not-found")


def test_too_large_a_body_is_refused():
    assert ask("/v1/quotes", "POST", b" " * 131072)[0] == 200
    assert ask("/v1/quotes", "POST", b" " * 131073)[0] == 413


@pytest.mark.parametrize(("version", "code"), [("1.1", 35), ("1.2", 0), ("1.3", 0)])
def test_old_tls_is_refused(version, code):
    command = ["curl", "-sk", "-o", "/dev/null", "--tls-max", version, f"https://{ADDRESS}/v1/quotes"]

    assert subprocess.run(command, check=False).returncode == code


def test_a_slow_sender_is_cut_off_and_keeps_no_server_busy(host):
    with socket.create_connection((ADDRESS, 443), timeout=20) as plain, trusting().wrap_socket(plain) as client:
        client.sendall(b"POST /v1/quotes HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        began = time.monotonic()
        time.sleep(1)
        busy = host.check_output(
            "curl -s http://10.56.3.11:8405/metrics | grep '^haproxy_backend_current_sessions{proxy=\"api\"}'"
        )
        answer = client.recv(4096).decode()

    assert busy.endswith(" 0")
    assert answer.startswith("HTTP/1.1 408")
    assert 8 < time.monotonic() - began < 14


def test_only_what_reads_is_sent_again():
    assert ask("/v1/die", "POST", b"{}")[0] == 502


def test_without_a_server_the_edge_says_so_and_stays(host):
    host.check_output("systemctl stop answer@8080")
    assert ask("/v1/quotes", "POST", b"{}")[0] == 503
    deadline = time.monotonic() + 8
    while host.run("curl -fs http://127.0.0.1:8406/ready").rc == 0:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert host.run("curl -fs http://127.0.0.1:8406/alive").rc == 0


def steady(stop, path, problems, counts):
    """A client that keeps its connection and asks again and again; whatever is not answered is a problem."""
    connection = None
    while not stop.is_set():
        try:
            connection = connection or connect()
            connection.request("POST", path, body=b"{}")
            answer = connection.getresponse()
            answer.read()
            counts.append(answer.status)
            if answer.will_close:
                connection.close()
                connection = None
        except OSError as error:
            if isinstance(error, ConnectionRefusedError | TimeoutError):
                time.sleep(0.05)  # the stop has come; nothing was sent
            else:
                problems.append(repr(error))
            if connection:
                connection.close()
            connection = None
    if connection:
        connection.close()


def test_a_reload_loses_no_request(host):
    stop, problems, counts = threading.Event(), [], []
    clients = [threading.Thread(target=steady, args=(stop, "/v1/wait=0.05", problems, counts)) for _ in range(8)]
    for client in clients:
        client.start()
    for _ in range(3):
        time.sleep(0.7)
        host.check_output("systemctl reload haproxy")
    time.sleep(0.7)
    stop.set()
    for client in clients:
        client.join()

    assert problems == []
    assert set(counts) == {200}
    assert len(counts) > 50


def test_a_stop_answers_what_is_in_being_and_then_lets_the_address_go(host):
    found = []
    slow = threading.Thread(target=lambda: found.append(ask("/v1/wait=4", "POST", b"{}")))
    slow.start()
    time.sleep(1)
    began = time.monotonic()
    host.check_output("systemctl stop haproxy")
    took = time.monotonic() - began
    slow.join()

    assert [status for status, _ in found] == [200]
    assert 3 < took < 10
    assert ADDRESS not in host.check_output("ip -4 address show")
    assert not host.service("keepalived.service").is_running


def test_nothing_of_a_request_but_method_path_and_verdict_is_logged(host):
    ask("/v1/quotes?token=canary-1", headers={"Authorization": "Bearer canary-2"})

    logged = host.check_output("journalctl --no-pager --output=cat --unit=haproxy")
    assert '"path": "/v1/quotes"' in logged
    assert "canary" not in logged
