"""An engine behind mutual TLS: who may use it is the name in a certificate of the root, and it is set up as it was told."""

import asyncio

import grpc
import pytest
from pyzeebe import ZeebeClient, create_insecure_channel, create_secure_channel
from pyzeebe.errors import PyZeebeError

ADDRESS = "10.56.3.11"
GATEWAY = f"{ADDRESS}:26600"
PATIENCE_S = 10


def topology(channel_of):
    async def run():
        channel = channel_of()
        try:
            return await asyncio.wait_for(ZeebeClient(channel).topology(), PATIENCE_S)
        finally:
            await channel.close()

    return asyncio.run(run())


def shown(host, name):
    """Connect with the certificate of that identity."""
    folder = f"/etc/cpq-oms/tls/{name}"
    roots, chain, key = (
        host.file(path).content for path in ("/etc/cpq-oms/tls/ca.pem", f"{folder}/cert.pem", f"{folder}/key.pem")
    )
    return lambda: create_secure_channel(
        grpc_address=GATEWAY,
        channel_credentials=grpc.ssl_channel_credentials(
            root_certificates=roots, private_key=key, certificate_chain=chain
        ),
    )


def test_a_named_client_sees_the_engine_as_it_was_set_up(host):
    found = topology(shown(host, "clerk"))

    assert found.partitions_count == 2
    assert found.cluster_size == 1
    assert [(broker.host, broker.port) for broker in found.brokers] == [(ADDRESS, 26601)]


def test_a_client_that_is_not_named_is_refused(host):
    with pytest.raises((PyZeebeError, grpc.RpcError)):
        topology(shown(host, "stranger"))


def test_without_a_certificate_nobody_is_served():
    with pytest.raises((PyZeebeError, grpc.RpcError, TimeoutError)):
        topology(lambda: create_insecure_channel(grpc_address=GATEWAY))


def test_the_engines_own_gateway_is_reached_from_the_host_alone(host):
    listening = host.check_output("ss --listening --tcp --numeric --no-header 'sport = :26510'")

    assert "127.0.0.1" in listening
    assert ADDRESS not in listening


def test_memory_and_figures_are_as_given(host):
    assert "-Xmx300m" in host.file("/etc/zeebe/java.args").content_string
    assert "zeebe_" in host.check_output(f"curl --silent --fail --max-time 5 http://{ADDRESS}:9700/metrics")


def test_the_jars_are_those_of_the_archive_and_the_few_that_it_lacks(host):
    path = host.file("/etc/zeebe/java.args").content_string.split("-cp\n")[1].strip()
    names = {jar.rpartition("/")[2] for jar in path.split(":")}
    open_files = host.check_output("ls -l /proc/$(systemctl show --property=MainPID --value zeebe.service)/fd")

    assert {"zeebe-launcher.jar", "zeebe-kafka-exporter-3.1.1-jar-with-dependencies.jar"} <= names
    assert "/of-the-archive.jar" in open_files


def test_the_proxy_is_fenced_and_runs_as_a_user_of_its_own(host):
    proxy = host.service("zeebe-proxy.service")

    assert proxy.is_running
    assert proxy.is_enabled
    assert host.run("systemd-analyze security --no-pager --threshold=20 zeebe-proxy.service").rc == 0
