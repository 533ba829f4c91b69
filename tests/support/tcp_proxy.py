"""A TCP proxy on a thread of its own that can lose what a server answers, and refuse connections."""

from __future__ import annotations

import contextlib
import selectors
import socket

from tests.support.loopback_proxy import Direction, LoopbackProxy


class TcpProxy(LoopbackProxy):
    """Forwards a loopback port to a server.

    Attributes:
        is_losing_replies: what the server sends is thrown away; what the client sends still arrives.
        is_holding_requests: what the client sends arrives nowhere, as over a broken link; replies still come.
        is_refusing: new connections are closed at once, and those there are cut.
        delay_s: how long each piece of the server's answers is held back.
        lost_bytes: how much of the server's answers was thrown away.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        super().__init__((host, int(port)))
        self.is_losing_replies = False
        self.is_holding_requests = False
        self.is_refusing = False
        self.delay_s = 0.0
        self.lost_bytes = 0

    def _admits(self) -> bool:
        return not self.is_refusing

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            client.settimeout(None)
            self._connections |= {client, server}
            try:
                self._copy(client, server)
            finally:
                self._connections -= {client, server}

    def _copy(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            stalled = False
            while not self._stopped.is_set():
                if stalled and self._stopped.wait(0.05):  # what waits to be read would be reported at once again
                    return
                stalled = False
                for key, _ in selector.select(timeout=0.2):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    direction: Direction = "out" if source is client else "in"
                    if direction in self.stalled:
                        self.held_back += 1
                        stalled = True
                        continue
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client and self.is_holding_requests:
                        continue
                    if source is server and self.is_losing_replies:
                        self.lost_bytes += len(data)
                    else:
                        if source is server and self._stopped.wait(self.delay_s):
                            return
                        key.data.sendall(data)
