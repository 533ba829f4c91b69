"""The channel to the workflow engine: to whichever gateway answers, and by mutual TLS where gateways want to know who calls."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyzeebe import ZeebeClient
from pyzeebe.errors import PyZeebeError
from pyzeebe.proto.gateway_pb2 import TopologyRequest, TopologyResponse

from app.adapters.kafka.connection import KafkaConnection
from app.adapters.zeebe.channel import GatewayIdentity, gateway_identity, open_channel

DAY = dt.timedelta(days=1)


@dataclass
class Authority:
    """A root and what it issues."""

    name: str

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._sign(self.name, self._key.public_key(), is_root=True)

    @property
    def pem(self) -> bytes:
        return self._root.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), is_root=False)
        return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _sign(self, name: str, key: ec.EllipticCurvePublicKey, *, is_root: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


async def _topology(_request: TopologyRequest, context: grpc.aio.ServicerContext) -> TopologyResponse:
    caller = context.auth_context().get("x509_common_name", [b"nobody"])[0].decode()
    return TopologyResponse(clusterSize=1, partitionsCount=1, replicationFactor=1, gatewayVersion=caller)


@asynccontextmanager
async def gateway(
    credentials: grpc.ServerCredentials | None = None, address: str = "127.0.0.1:0"
) -> AsyncIterator[int]:
    """A gateway that answers with who called."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        _topology,
        request_deserializer=TopologyRequest.FromString,
        response_serializer=TopologyResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("gateway_protocol.Gateway", {"Topology": handler})]
    )
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def caller(channel: grpc.aio.Channel) -> str:
    """Who the gateway says is calling."""
    return str((await ZeebeClient(channel, max_connection_retries=-1).topology()).gateway_version)


async def test_gateways_that_answer_are_found_among_those_that_do_not() -> None:
    async with gateway() as first, gateway() as second, gateway() as gone:
        pass
    # Nothing listens on the others any more.
    async with (
        gateway(address=f"127.0.0.1:{second}"),
        open_channel(f"127.0.0.1:{first},127.0.0.1:{second},127.0.0.1:{gone}") as channel,
    ):
        await channel.channel_ready()
        assert [await caller(channel) for _ in range(5)] == ["nobody"] * 5


async def test_gateway_knows_who_calls_and_turns_away_who_is_not_of_the_same_root() -> None:
    ours, foreign = Authority("ours"), Authority("foreign")
    certificate, key = ours.issue("zeebe")
    wanted = grpc.ssl_server_credentials([(key, certificate)], ours.pem, require_client_auth=True)
    async with gateway(wanted) as port:
        address = f"127.0.0.1:{port},127.0.0.1:{port}"
        async with open_channel(address, GatewayIdentity(ours.pem, *ours.issue("worker@worker-1"))) as channel:
            assert await caller(channel) == "worker@worker-1"
        async with open_channel(address, GatewayIdentity(ours.pem, *foreign.issue("worker@worker-1"))) as channel:
            with pytest.raises(PyZeebeError):
                await caller(channel)
        # Nor do we speak to a gateway of another root.
        async with open_channel(address, GatewayIdentity(foreign.pem, *ours.issue("worker@worker-1"))) as channel:
            with pytest.raises(PyZeebeError):
                await caller(channel)


def test_identity_is_whole_or_there_is_none(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("root")

    assert gateway_identity("", "certificate", "canary") is None
    identity = gateway_identity(str(ca), "certificate", "canary")
    assert identity == GatewayIdentity(b"root", b"certificate", b"canary")
    assert "canary" not in repr(identity)
    with pytest.raises(ValueError, match="camunda-key"):
        gateway_identity(str(ca), "certificate", "")
    with pytest.raises(OSError, match=r"missing\.pem"):
        gateway_identity(str(tmp_path / "missing.pem"), "certificate", "canary")


@pytest.mark.parametrize(("ca_file", "expected"), [("", "SASL_PLAINTEXT"), ("/etc/cpq-oms/tls/ca.pem", "SASL_SSL")])
def test_kafka_is_spoken_to_by_tls_where_a_root_is_named(ca_file: str, expected: str) -> None:
    options = KafkaConnection(["broker:9092"], "relay", "canary", "relay-1", ca_file).options()

    assert options["security_protocol"] == expected
    assert options.get("ssl_cafile", "") == ca_file


def test_while_its_password_is_rotated_a_client_of_kafka_uses_the_next_one() -> None:
    connection = KafkaConnection(["broker:9092"], "relay", "canary", "relay-1", next_password="the next one")

    options = connection.options()

    assert (options["sasl_mechanism"], options["sasl_plain_password"]) == ("SCRAM-SHA-512", "the next one")
    assert "next one" not in repr(connection)
