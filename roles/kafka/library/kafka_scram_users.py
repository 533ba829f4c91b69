#!/usr/bin/python
"""Ansible module: wait for a Kafka broker and make exactly the declared SCRAM users able to log in.

Speaks the five requests it needs itself: each of Kafka's own tools costs the start of a JVM and shows passwords on its command
line. A password is judged by logging in with it, so one that was changed behind our back is found, and nothing is written when
it is right. Whatever the users' passwords are, the broker's own identity on the internal listener can set them: a rotation needs
no old password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kafka_scram_users
short_description: Wait for a broker and hold its SCRAM-SHA-256 users to the declared ones
options:
  host:
    description: Address of the broker's client and internal listeners.
    type: dict
    required: true
    suboptions:
      client: {description: Address and port for SCRAM log-ins., type: str, required: true}
      internal: {description: Address and port where the broker's own identity logs in., type: str, required: true}
  broker_password:
    description: Password of the identity C(broker) on the internal listener.
    type: str
    required: true
  users:
    description: Password of each user by name. A user that is not in it loses its credentials.
    type: dict
    required: true
  iterations:
    description: Rounds of the key derivation for passwords that are written.
    type: int
    default: 8192
  timeout:
    description: Seconds to wait until the broker answers.
    type: int
    default: 60
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Wait for the broker and hold its users to the declared ones
  kafka_scram_users:
    host: {client: "10.0.0.1:9092", internal: "10.0.0.1:9094"}
    broker_password: "{{ kafka_broker_password }}"
    users: {admin: "{{ kafka_admin_password }}"}
  no_log: true
"""

RETURN = r"""
set: {description: Users whose credentials were written., returned: always, type: list}
removed: {description: Users whose credentials were deleted., returned: always, type: list}
cluster_id: {description: The cluster that answered; empty in check mode when none does., returned: always, type: str}
"""

SASL_HANDSHAKE, SASL_AUTHENTICATE, DESCRIBE_CLUSTER = 17, 36, 60
DESCRIBE_SCRAM, ALTER_SCRAM = 50, 51
SCRAM_SHA_256 = 1
AUTHENTICATION_FAILED = 58
RESOURCE_NOT_FOUND = 91
CLIENT_ID = b"\x00\x07ansible"
BROKER_IDENTITY = "broker"
ATTEMPT_SECONDS = 5.0
RETRY_SECONDS = 0.2


class BrokerError(Exception):
    """The broker refused a request or said something that is not the protocol."""


class LoginRefusedError(BrokerError):
    """The broker does not accept this user's password."""


def uvarint(value: int) -> bytes:
    """Encode an unsigned integer as Kafka's compact types have it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def compact(value: bytes) -> bytes:
    """Encode compact bytes or a compact string."""
    return uvarint(len(value) + 1) + value


class Reader:
    """Reads one response."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if count < 0 or self._at + count > len(self._data):
            raise BrokerError("a response ended too early")
        part = self._data[self._at : self._at + count]
        self._at += count
        return part

    def int8(self) -> int:
        """Return a signed byte."""
        return int(struct.unpack(">b", self.take(1))[0])

    def int16(self) -> int:
        """Return a 16-bit number."""
        return int(struct.unpack(">h", self.take(2))[0])

    def int32(self) -> int:
        """Return a 32-bit number."""
        return int(struct.unpack(">i", self.take(4))[0])

    def uvarint(self) -> int:
        """Return a variable-length number."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    def compact(self) -> bytes:
        """Return compact bytes or a compact string; null is empty."""
        return self.take(max(self.uvarint() - 1, 0))

    def string(self) -> str:
        """Return a classic nullable string; null is empty."""
        return self.take(max(self.int16(), 0)).decode()

    def tags(self) -> None:
        """Pass over tagged fields."""
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())


class Connection:
    """One connection to a listener, closed by `with`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ATTEMPT_SECONDS)
        self._correlation = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, api: int, version: int, body: bytes, *, flexible: bool) -> Reader:
        """Send one request and return its response's body.

        Raises:
            BrokerError: the answer is not to this request.
            OSError: the connection is lost.
        """
        self._correlation += 1
        header = struct.pack(">hhi", api, version, self._correlation) + CLIENT_ID + (b"\0" if flexible else b"")
        self._socket.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        response = Reader(self._receive(struct.unpack(">i", self._receive(4))[0]))
        if response.int32() != self._correlation:
            raise BrokerError("a response belongs to another request")
        if flexible:
            response.tags()
        return response

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return data

    def _handshake(self, mechanism: bytes) -> None:
        body = struct.pack(">h", len(mechanism)) + mechanism
        if error := self.call(SASL_HANDSHAKE, 1, body, flexible=False).int16():
            raise BrokerError(f"the listener does not offer {mechanism.decode()} (error {error})")

    def _authenticate(self, token: bytes) -> bytes:
        response = self.call(SASL_AUTHENTICATE, 1, struct.pack(">i", len(token)) + token, flexible=False)
        error, message = response.int16(), response.string()
        if error == AUTHENTICATION_FAILED:
            raise LoginRefusedError(message)
        if error:
            raise BrokerError(f"authentication: error {error} {message}")
        return response.take(max(response.int32(), 0))

    def login_plain(self, user: str, password: str) -> None:
        """Log in by PLAIN.

        Raises:
            LoginRefusedError: wrong password.
        """
        self._handshake(b"PLAIN")
        self._authenticate(f"\0{user}\0{password}".encode())

    def login_scram(self, user: str, password: str) -> None:
        """Log in by SCRAM-SHA-256 (RFC 5802) and check that the broker knows the password too.

        Raises:
            LoginRefusedError: wrong password, or no such user.
        """
        self._handshake(b"SCRAM-SHA-256")
        first = f"n={user},r={secrets.token_urlsafe(18)}"
        answer = self._authenticate(f"n,,{first}".encode()).decode()
        fields = dict(part.split("=", 1) for part in answer.split(","))
        final = f"c=biws,r={fields['r']}"
        salted = salted_password(password, base64.b64decode(fields["s"]), int(fields["i"]))
        signed = f"{first},{answer},{final}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        verdict = self._authenticate(f"{final},p={proof}".encode()).decode()
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        if not hmac.compare_digest(verdict, f"v={base64.b64encode(expected).decode()}"):
            raise BrokerError(f"the broker's signature for {user} is wrong: it is not the broker it claims to be")


def salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    """Derive the key that stands for a password."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


@dataclass(frozen=True)
class Broker:
    """The broker's two doors: its own identity may do anything, users prove only who they are."""

    client: str
    internal: str
    password: str

    def _session(self) -> Connection:
        connection = Connection(self.internal)
        try:
            connection.login_plain(BROKER_IDENTITY, self.password)
        except BaseException:
            connection.__exit__()
            raise
        return connection

    def cluster_id(self) -> str:
        """Return the cluster's id once the broker is registered and sees itself.

        Raises:
            BrokerError: it answers but is not ready to serve.
        """
        with self._session() as connection:
            response = connection.call(DESCRIBE_CLUSTER, 0, b"\0\0", flexible=True)
            response.int32()
            error, message = response.int16(), response.compact().decode()
            if error:
                raise BrokerError(f"describe cluster: error {error} {message}")
            cluster_id = response.compact().decode()
            response.int32()
            if response.uvarint() - 1 < 1:
                raise BrokerError("the cluster has no broker yet")
            return cluster_id

    def accepts(self, user: str, password: str) -> bool:
        """Whether a user can log in with a password."""
        with Connection(self.client) as connection:
            try:
                connection.login_scram(user, password)
            except LoginRefusedError:
                return False
            return True

    def users(self) -> set[str]:
        """Return the names of all users with SCRAM credentials."""
        with self._session() as connection:
            response = connection.call(DESCRIBE_SCRAM, 0, uvarint(0) + b"\0", flexible=True)
            response.int32()
            error, message = response.int16(), response.compact().decode()
            if error:
                raise BrokerError(f"describe users: error {error} {message}")
            names = set()
            for _ in range(response.uvarint() - 1):
                names.add(response.compact().decode())
                response.int16()
                response.compact()
                for _ in range(response.uvarint() - 1):
                    response.int8()
                    response.int32()
                    response.tags()
                response.tags()
            return names

    def alter(self, write: Mapping[str, str], delete: set[str], iterations: int) -> None:
        """Write and delete credentials.

        Raises:
            BrokerError: the broker refuses one of them.
        """
        body = uvarint(len(delete) + 1)
        for user in sorted(delete):
            body += compact(user.encode()) + struct.pack(">b", SCRAM_SHA_256) + b"\0"
        body += uvarint(len(write) + 1)
        for user, password in sorted(write.items()):
            salt = secrets.token_bytes(16)
            body += compact(user.encode()) + struct.pack(">bi", SCRAM_SHA_256, iterations)
            body += compact(salt) + compact(salted_password(password, salt, iterations)) + b"\0"
        with self._session() as connection:
            response = connection.call(ALTER_SCRAM, 0, body + b"\0", flexible=True)
            response.int32()
            for _ in range(response.uvarint() - 1):
                user, error, message = response.compact().decode(), response.int16(), response.compact().decode()
                response.tags()
                if error not in {0, RESOURCE_NOT_FOUND}:
                    raise BrokerError(f"user {user}: error {error} {message}")


def wait(broker: Broker, seconds: float) -> str:
    """Wait until the broker serves and return the cluster's id.

    Raises:
        BrokerError: it does not in time; carries the last reason. A refused log-in is tried again too: a node of the cluster may
            not have the new password yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return broker.cluster_id()
        except (OSError, BrokerError) as reason:
            if time.monotonic() > deadline:
                raise BrokerError(f"{broker.internal} does not serve after {seconds:.0f} s: {reason}") from reason
        time.sleep(RETRY_SECONDS)


def main() -> None:
    """Wait, compare and write what differs."""
    module = AnsibleModule(
        argument_spec={
            "host": {
                "type": "dict",
                "required": True,
                "options": {"client": {"type": "str", "required": True}, "internal": {"type": "str", "required": True}},
            },
            "broker_password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "dict", "required": True, "no_log": True},
            "iterations": {"type": "int", "default": 8192},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    users: dict[str, str] = parameters["users"]
    broker = Broker(parameters["host"]["client"], parameters["host"]["internal"], parameters["broker_password"])
    try:
        try:
            # In check mode nothing was started, so there is nothing to wait for.
            cluster_id = wait(broker, 0 if module.check_mode else parameters["timeout"])
        except (OSError, BrokerError):
            if not module.check_mode:
                raise
            module.exit_json(changed=True, set=sorted(users), removed=[], cluster_id="")
        surplus = broker.users() - users.keys()
        wrong = {user: password for user, password in users.items() if not broker.accepts(user, password)}
        if (wrong or surplus) and not module.check_mode:
            broker.alter(wrong, surplus, parameters["iterations"])
            deadline = time.monotonic() + ATTEMPT_SECONDS
            while rejected := [user for user, password in wrong.items() if not broker.accepts(user, password)]:
                if time.monotonic() > deadline:
                    module.fail_json(
                        msg=f"credentials were written, and the broker still refuses: {', '.join(rejected)}"
                    )
                time.sleep(RETRY_SECONDS)
    except (OSError, BrokerError) as problem:
        module.fail_json(msg=f"Kafka at {broker.internal}: {problem}")
    module.exit_json(changed=bool(wrong or surplus), set=sorted(wrong), removed=sorted(surplus), cluster_id=cluster_id)


if __name__ == "__main__":
    main()
