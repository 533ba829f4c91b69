"""A server that speaks TLS only, takes a former password beside the present one, and is sized by its host."""

import re
import ssl
from pathlib import Path

import pytest
import redis

ADDRESS = ("10.56.3.11", 6380)
PRESENT, FORMER = "clerkPasswordOfTheTest1", "formerClerkPasswordOfTheTest1"


@pytest.fixture(scope="module")
def roots(tmp_path_factory, host):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_text(host.file("/etc/cpq-oms/tls/ca.pem").content_string)
    return path


def connect(roots, password=PRESENT):
    return redis.Redis(
        *ADDRESS,
        username="clerk",
        password=password,
        ssl=True,
        ssl_ca_certs=str(roots),
        socket_timeout=5,
        protocol=2,
    )


def test_clients_that_trust_the_root_are_served(roots):
    assert connect(roots).set("shop:1", "x", ex=10)


def test_without_tls_and_below_version_1_2_nobody_is_served(roots):
    with pytest.raises(redis.exceptions.ConnectionError):
        redis.Redis(*ADDRESS, username="clerk", password=PRESENT, socket_timeout=5).get("shop:1")
    context = ssl.create_default_context(cafile=roots)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_old_protocols_are_refused(host):
    for version, works in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        done = host.run(f"openssl s_client -connect 10.56.3.11:6380 {version} -cipher DEFAULT@SECLEVEL=0 </dev/null")
        assert (done.rc == 0) is works, (version, done.stdout)


def test_a_server_of_another_root_is_not_trusted(tmp_path):
    with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(Path(ssl.get_default_verify_paths().openssl_cafile or tmp_path)).get("shop:1")


def test_present_and_former_password_are_taken_and_rights_are_the_present_ones(roots):
    for password in (PRESENT, FORMER):
        assert connect(roots, password).get("list:1") is None
    with pytest.raises(redis.exceptions.NoPermissionError):
        connect(roots).flushall()
    with pytest.raises(redis.exceptions.NoPermissionError):
        connect(roots).set("list:1", "x")


def test_it_is_sized_by_its_host(roots, host):
    memory = int(re.search(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string).group(1)) // 1024
    client = connect(roots)

    assert int(client.config_get("maxmemory")["maxmemory"]) == memory * 10 // 100 * 1024 * 1024
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "volatile-ttl"
    assert client.config_get("io-threads")["io-threads"] == "2"
