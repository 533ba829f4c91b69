#!/usr/bin/python
"""Ansible module: wait until a Zeebe gateway names a healthy leader for every partition.

A port that accepts connections says nothing: the gateway listens before any partition can take a command. The host has no gRPC
library, and a JVM for one question costs more than the question, so the one call is framed here.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: zeebe_topology
short_description: Wait until every partition has a healthy leader
options:
  host: {description: Address of the gateway., type: str, required: true}
  port: {description: Port of the gateway., type: int, required: true}
  partitions: {description: Number of partitions the cluster must have., type: int, required: true}
  brokers: {description: Number of brokers the cluster must have., type: int, required: true}
  timeout: {description: Seconds to wait., type: int, default: 90}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Wait for a leader of every partition
  zeebe_topology: {host: 10.0.0.1, port: 26500, partitions: 1, brokers: 1}
"""

RETURN = r"""
leaders: {description: Node of the leader by partition., returned: always, type: dict}
version: {description: Version of the gateway., returned: always, type: str}
"""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
STREAM = 1
MESSAGE_PREFIX = 5
LEADER = HEALTHY = 0
VARINT, BYTES = 0, 2
ATTEMPT_SECONDS = 3.0
RETRY_SECONDS = 0.25


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


def call(host: str, port: int) -> bytes:
    """Ask for the topology and return the response message.

    Raises:
        GatewayError: the gateway refuses, or has no answer yet.
        OSError: nothing listens.
    """
    with socket.create_connection((host, port), timeout=ATTEMPT_SECONDS) as connection:
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


def topology(message: bytes) -> dict[str, Any]:
    """Read what matters of a TopologyResponse: brokers, partitions, version, and the healthy leaders."""
    result: dict[str, Any] = {"brokers": 0, "partitions": 0, "version": "", "leaders": {}}
    for number, value in fields(message):
        if number == 1 and isinstance(value, bytes):
            result["brokers"] += 1
            broker = list(fields(value))
            node = next((item for key, item in broker if key == 1), 0)
            for key, item in broker:
                if key == 4 and isinstance(item, bytes):
                    # A field with its default value is not sent.
                    partition = {1: 0, 2: LEADER, 3: HEALTHY, **dict(fields(item))}
                    if partition[2] == LEADER and partition[3] == HEALTHY:
                        result["leaders"][partition[1]] = node
        elif number == 3:
            result["partitions"] = value
        elif number == 5 and isinstance(value, bytes):
            result["version"] = value.decode()
    return result


def main() -> None:
    """Ask until the answer is the wanted one."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "partitions": {"type": "int", "required": True},
            "brokers": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    host, port = parameters["host"], parameters["port"]
    wanted = (parameters["brokers"], parameters["partitions"], parameters["partitions"])
    deadline = time.monotonic() + parameters["timeout"]
    while True:
        try:
            seen = topology(call(host, port))
            if (seen["brokers"], seen["partitions"], len(seen["leaders"])) == wanted:
                module.exit_json(changed=False, leaders=seen["leaders"], version=seen["version"])
            reason = "{brokers} brokers, {partitions} partitions, leaders {leaders}".format(**seen)
        except (OSError, GatewayError) as problem:
            reason = str(problem)
        if module.check_mode:
            # Nothing was started, so there is nothing to wait for.
            module.exit_json(changed=False, leaders={}, version="")
        if time.monotonic() > deadline:
            expected = f"{wanted[0]} brokers and a healthy leader for each of {wanted[1]} partitions"
            module.fail_json(msg=f"Zeebe at {host}:{port} does not have {expected}: {reason}")
        time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main()
