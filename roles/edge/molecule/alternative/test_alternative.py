"""Limits, names, times and who serves the canary are what the variables say."""

import base64
import http.client
import json
import ssl
import time

import pytest

ADDRESS = "10.56.3.9"


def connect():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(ADDRESS, 443, timeout=10, context=context)
    connection.connect()
    return connection


def ask(path, method="GET", body=None, name=ADDRESS, tenant=None):
    connection = connect()
    try:
        connection.request(method, path, body=body, headers={"Host": name} | (bearer(tenant) if tenant else {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def bearer(tenant):
    """A token of that tenant, as far as the edge reads one."""
    parts = ({"alg": "none"}, {"tenant": tenant})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return {"Authorization": f"Bearer {'.'.join(encoded)}.c2lnbmF0dXJl"}


@pytest.fixture(autouse=True)
def forgotten(host):
    """Each test is a new source; whether the proxy runs at all is for the tests to say."""
    host.run(
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'clear table https\\n'); s.recv(99)\""
    )


def test_the_address_is_held_without_the_other_edge(host):
    assert ADDRESS in host.check_output("ip -4 address show")
    assert "virtual_router_id 77" in host.file("/etc/keepalived/keepalived.conf").content_string


def test_a_name_for_callbacks_leads_to_the_receivers_only():
    assert ask("/v1/callbacks/payment/acme", name="callbacks.example.com")[1].startswith("127.0.0.3 ")
    assert ask("/v1/quotes", name="callbacks.example.com")[0] == 404
    assert ask("/v1/callbacks/payment/acme")[0] == 404
    assert ask("/v1/quotes")[1].startswith("127.0.0.2 ")


def test_a_tenant_of_the_canary_is_served_by_its_server_and_others_by_the_other():
    assert {ask("/v1/quotes", tenant="acme")[1].split()[0] for _ in range(4)} == {"127.0.0.3"}
    assert {ask("/v1/quotes", tenant="globex")[1].split()[0] for _ in range(4)} == {"127.0.0.2"}


def test_body_and_time_have_the_limits_given():
    assert ask("/v1/quotes", "POST", b" " * 1001)[0] == 413
    began = time.monotonic()
    assert ask("/v1/wait=8")[0] == 504
    assert 3 < time.monotonic() - began < 7


def test_one_source_has_so_many_connections_and_no_more():
    held = [connect() for _ in range(5)]
    try:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            connect()
    finally:
        for connection in held:
            connection.close()


def test_one_source_has_so_many_requests_and_no_more():
    statuses = []
    connection = connect()
    for _ in range(60):
        connection.request("GET", "/v1/quotes")
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()

    assert statuses[:40] == [200] * 40
    assert statuses[-1] == 429


def test_figures_are_at_the_port_given(host):
    assert "haproxy_backend_status" in host.check_output("curl -fsS http://10.56.3.11:9405/metrics")
