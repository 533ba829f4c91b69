"""A proxy between a unit and PostgreSQL that reads the protocol, so that a fault hits one moment of one transaction.

The moments are those that matter to a crash: a statement or a commit on its way to the server, and its answer on the
way back. The proxy calls the fault while the message is in its hands: before means that the server has not seen it,
after means that the server has done it and the unit has not been told.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.support.loopback_proxy import LoopbackProxy

At = Literal["before-statement", "after-statement", "before-commit", "after-commit"]

_NO_TYPE_YET = (80877103, 80877104)  # the requests for TLS and GSS encryption, which come before the first message
_READY_FOR_QUERY = b"Z"


@dataclass
class Moment:
    """When to strike.

    Args:
        at: which side of what.
        of: pattern of the statement with what is bound to it, or of a statement of the transaction that commits.
        nth: the how many-th time.
        strike: the fault; runs on the connection's own thread, and the message is held until it returns. True lets the
            message go on, False loses it and the connection.
    """

    at: At
    of: str
    nth: int
    strike: Callable[[], bool]
    hit: threading.Event = field(default_factory=threading.Event)
    seen: int = 0


class PostgresProxy(LoopbackProxy):
    """Forwards a loopback port to a PostgreSQL server, and holds the moments that were armed."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self._lock = threading.Lock()
        self._moments: list[Moment] = []

    def arm(self, moment: Moment) -> Moment:
        """Wait for a moment from now on; it strikes once."""
        with self._lock:
            self._moments.append(moment)
        return moment

    def disarm(self) -> None:
        """Forget all moments."""
        with self._lock:
            self._moments.clear()

    def due(self, at: At, statements: list[str]) -> Moment | None:
        """Return the moment that has come, if any, and take it off the list."""
        with self._lock:
            for moment in self._moments:
                if moment.at == at and any(re.search(moment.of, statement) for statement in statements):
                    moment.seen += 1
                    if moment.seen == moment.nth:
                        self._moments.remove(moment)
                        return moment
        return None

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections |= {client, server}
        try:
            _Session(self, client, server).run()
        finally:
            self._connections -= {client, server}
            client.close()
            server.close()


class _Session:
    """One connection: what was prepared, what the open transaction did, and which answers are waited for."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._prepared: dict[str, str] = {}
        self._transaction: list[str] = []
        self._is_open = False
        # Moments whose message went to the server and whose answer is still on its way.
        self._awaited: list[Moment] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        answers = threading.Thread(target=self._answers, daemon=True)
        with contextlib.suppress(OSError):
            if self._start_up():
                answers.start()
                self._requests()
        self._close()
        if answers.ident is not None:
            answers.join(5)

    def _close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _start_up(self) -> bool:
        """Forward the untyped first messages; return whether the conversation goes on."""
        while True:
            head = _receive(self._client, 4)
            (length,) = struct.unpack("!i", head)
            body = _receive(self._client, length - 4)
            self._server.sendall(head + body)
            if length == 8 and struct.unpack("!i", body)[0] in _NO_TYPE_YET:
                answer = _receive(self._server, 1)
                self._client.sendall(answer)
                if answer != b"N":
                    raise RuntimeError("the server encrypts, and an encrypted conversation cannot be read")
                continue
            return True

    def _requests(self) -> None:
        while True:
            kind, body = _message(self._client)
            statement = self._statement(kind, body)
            if statement is not None and not self._pass(statement):
                return
            self._proxy._wait_for("out")
            self._server.sendall(_packed(kind, body))

    def _statement(self, kind: bytes, body: bytes) -> str | None:
        """Return the text of the statement that a message executes."""
        if kind == b"Q":
            return _text(body)
        if kind == b"P":
            name, statement = body.split(b"\0", 2)[:2]
            self._prepared[name.decode()] = _text(statement)
        if kind == b"B":
            name = body.split(b"\0", 2)[1]
            # With what is bound to it, so that a moment can be about one order: texts are there as they are.
            return f"{self._prepared.get(name.decode(), '')} {body.decode(errors='replace')}"
        return None

    def _pass(self, statement: str) -> bool:
        """Note what is executed and strike where a moment has come; return whether the message goes on."""
        is_commit = statement.upper().startswith("COMMIT")
        if is_commit:
            told, before, after = self._transaction, "before-commit", "after-commit"
        else:
            told, before, after = [statement], "before-statement", "after-statement"
        is_alone = not self._is_open and not is_commit and not statement.upper().startswith("BEGIN")
        for at in (before, "before-commit") if is_alone else (before,):
            moment = self._proxy.due(at, told)  # type: ignore[arg-type]  # mypy does not follow the two literals
            if moment is not None and not _strike(moment):
                return False
        with self._lock:
            for at in (after, "after-commit") if is_alone else (after,):
                moment = self._proxy.due(at, told)  # type: ignore[arg-type]
                if moment is not None:
                    self._awaited.append(moment)
        if is_commit or statement.upper().startswith("ROLLBACK"):
            self._transaction, self._is_open = [], False
        elif statement.upper().startswith("BEGIN"):
            self._transaction, self._is_open = [statement], True
        else:
            self._transaction.append(statement)
        return True

    def _answers(self) -> None:
        held: list[bytes] = []
        with contextlib.suppress(OSError):
            while True:
                kind, body = _message(self._server)
                self._proxy._wait_for("in")
                held.append(_packed(kind, body))
                with self._lock:
                    due = self._awaited
                    if due and kind != _READY_FOR_QUERY:
                        continue  # the unit learns nothing before the strike
                    self._awaited = []
                verdicts = [_strike(moment) for moment in due]
                if not all(verdicts):
                    break
                self._client.sendall(b"".join(held))
                held.clear()
        self._close()


def _strike(moment: Moment) -> bool:
    goes_on = moment.strike()
    moment.hit.set()
    return goes_on


def _text(raw: bytes) -> str:
    return " ".join(raw.rstrip(b"\0").decode(errors="replace").split())


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    head = _receive(source, 5)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], _receive(source, length - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _receive(source: socket.socket, count: int) -> bytes:
    """Read so many bytes.

    Raises:
        ConnectionError: the other side closed.
    """
    parts: list[bytes] = []
    while count > 0:
        part = source.recv(min(count, 65536))
        if not part:
            raise ConnectionError("closed")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
