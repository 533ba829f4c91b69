"""What Zeebe's modules share: one call of the gateway, and what its answer says.

The host has no gRPC library, and a JVM for one question costs more than the question, so the one call is framed here.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
STREAM = 1
MESSAGE_PREFIX = 5
LEADER = HEALTHY = 0
FOLLOWER = 1
VARINT, BYTES = 0, 2
ATTEMPT_SECONDS = 3.0


class GatewayError(Exception):
    """The gateway does not answer, or not as a gateway does."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Frame a payload (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(authority: str) -> bytes:
    """Encode the request's headers as literals without indexing, which need no table (RFC 7541, section 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/gateway_protocol.Gateway/Topology",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


def receive(connection: socket.socket, count: int) -> bytes:
    """Read exactly so many bytes."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise GatewayError("the gateway closed the connection")
        data += part
    return data


def connect(host: str, port: int, tls: Mapping[str, str]) -> socket.socket:
    """Open a connection, with a client certificate where the gateway wants one."""
    connection = socket.create_connection((host, port), timeout=ATTEMPT_SECONDS)
    if not tls:
        return connection
    try:
        context = ssl.create_default_context(cafile=tls["ca"])
        context.load_cert_chain(tls["certificate"], tls["key"])
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def call(host: str, port: int, tls: Mapping[str, str] | None = None) -> bytes:
    """Ask for the topology and return the response message.

    Raises:
        GatewayError: the gateway refuses, or has no answer yet.
        OSError: nothing listens, or the certificates do not suit.
    """
    with connect(host, port, tls or {}) as connection:
        connection.sendall(
            PREFACE
            + frame(SETTINGS, 0, 0)
            + frame(HEADERS, END_HEADERS, STREAM, headers(f"{host}:{port}"))
            + frame(DATA, END_STREAM, STREAM, bytes(MESSAGE_PREFIX))
        )
        body = b""
        while True:
            head = receive(connection, 9)
            kind, flags = head[3], head[4]
            stream = struct.unpack(">I", head[5:])[0] & 0x7FFFFFFF
            payload = receive(connection, int.from_bytes(head[:3], "big"))
            if kind in {SETTINGS, PING} and not flags & ACK:
                connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind in {RST_STREAM, GOAWAY}:
                raise GatewayError("the gateway refused the call")
            elif stream == STREAM:
                body += payload if kind == DATA else b""
                if kind in {DATA, HEADERS} and flags & END_STREAM:
                    break
        if len(body) < MESSAGE_PREFIX:
            raise GatewayError("the gateway answered without a topology")
        return body[MESSAGE_PREFIX:]


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    while at < len(message):
        key = varint()
        if key & 7 == VARINT:
            yield key >> 3, varint()
        elif key & 7 == BYTES:
            length = varint()
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise GatewayError("the topology has a field of unknown kind")


@dataclass(frozen=True)
class Topology:
    """The cluster as a gateway sees it: by node the partitions it has a healthy replica of, and the leader of each that has one."""

    replicas: Mapping[int, frozenset[int]]
    leaders: Mapping[int, int]
    partitions: int
    version: str


def topology(message: bytes) -> Topology:
    """Read what matters of a TopologyResponse."""
    replicas: dict[int, frozenset[int]] = {}
    leaders: dict[int, int] = {}
    partitions, version = 0, ""
    for number, value in fields(message):
        if number == 1 and isinstance(value, bytes):
            broker = list(fields(value))
            node = next((item for key, item in broker if key == 1 and isinstance(item, int)), 0)
            # A field with its default value is not sent.
            found = [
                {1: 0, 2: LEADER, 3: HEALTHY, **dict(fields(item))}
                for key, item in broker
                if key == 4 and isinstance(item, bytes)
            ]
            healthy = [
                partition for partition in found if partition[3] == HEALTHY and partition[2] in {LEADER, FOLLOWER}
            ]
            replicas[node] = frozenset(int(partition[1]) for partition in healthy)
            leaders.update({int(partition[1]): node for partition in healthy if partition[2] == LEADER})
        elif number == 3 and isinstance(value, int):
            partitions = value
        elif number == 5 and isinstance(value, bytes):
            version = value.decode()
    return Topology(replicas, leaders, partitions, version)
