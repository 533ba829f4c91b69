"""What Kafka's modules share: the frames and types of its protocol, and the two ways to log in.

Each of Kafka's own tools costs the start of a JVM and shows passwords on its command line; a host has no Kafka client for Python.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
from typing import Self

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
AUTHENTICATION_FAILED = 58
CLIENT_ID = b"\x00\x07ansible"
MECHANISMS = {"sha256": b"SCRAM-SHA-256", "sha512": b"SCRAM-SHA-512"}
ATTEMPT_SECONDS = 5.0


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

    def int32s(self) -> list[int]:
        """Return a classic array of 32-bit numbers."""
        return [self.int32() for _ in range(self.int32())]

    def tags(self) -> None:
        """Pass over tagged fields."""
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())


class Connection:
    """One connection to a listener, closed by `with`.

    Args:
        address: `host:port`.
        ca: file with the certificates that the listener's own must come from; without it the listener speaks no TLS.
    """

    def __init__(self, address: str, ca: str | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ATTEMPT_SECONDS)
        self._correlation = 0
        if ca:
            try:
                context = ssl.create_default_context(cafile=ca)
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
            except BaseException:
                self._socket.close()
                raise

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

    def login_scram(self, user: str, password: str, digest: str = "sha256") -> None:
        """Log in by SCRAM-SHA-256 or, with the digest sha512, SCRAM-SHA-512 (RFC 5802) and check that the broker knows the password too.

        Raises:
            LoginRefusedError: wrong password, or no such user.
        """
        self._handshake(MECHANISMS[digest])
        first = f"n={user},r={secrets.token_urlsafe(18)}"
        answer = self._authenticate(f"n,,{first}".encode()).decode()
        fields = dict(part.split("=", 1) for part in answer.split(","))
        final = f"c=biws,r={fields['r']}"
        salted = salted_password(password, base64.b64decode(fields["s"]), int(fields["i"]), digest)
        signed = f"{first},{answer},{final}".encode()
        client_key = hmac.digest(salted, b"Client Key", digest)
        signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        verdict = self._authenticate(f"{final},p={proof}".encode()).decode()
        expected = hmac.digest(hmac.digest(salted, b"Server Key", digest), signed, digest)
        if not hmac.compare_digest(verdict, f"v={base64.b64encode(expected).decode()}"):
            raise BrokerError(f"the broker's signature for {user} is wrong: it is not the broker it claims to be")


def salted_password(password: str, salt: bytes, iterations: int, digest: str = "sha256") -> bytes:
    """Derive the key that stands for a password."""
    return hashlib.pbkdf2_hmac(digest, password.encode(), salt, iterations)


def broker_identity(password: str) -> str:
    """Return the name by which brokers that show this password log in to each other.

    It follows from the password, so two of them can be taken at a time while it is changed, and 32 bits of a digest tell nobody a random password.
    """
    return f"broker_{hashlib.sha256(password.encode()).hexdigest()[:8]}"


def broker_session(address: str, password: str, ca: str | None) -> Connection:
    """Log in on an internal listener as the brokers' own identity.

    Raises:
        BrokerError: the listener refuses.
        OSError: it does not answer, or its certificate is not of the CA.
    """
    connection = Connection(address, ca)
    try:
        connection.login_plain(broker_identity(password), password)
    except BaseException:
        connection.__exit__()
        raise
    return connection
