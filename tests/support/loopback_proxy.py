"""What every proxy of the tests does: listen on a loopback port, serve each connection on a thread, break all at once."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Literal, Self

Direction = Literal["in", "out"]
"""As the client sees it: `in` is what the server answers, `out` what the client sends."""

_LOOK_SECONDS = 0.05


class LoopbackProxy(ABC):
    """A loopback port in front of a server; what becomes of a connection is the heir's business.

    Attributes:
        stalled: directions in which nothing moves, on connections there are and on new ones; what was held back goes on
            afterwards, as TCP sends it again, unless the connection was given up meanwhile.
        held_back: how often something waited for a stalled direction.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.stalled: set[Direction] = set()
        self.held_back = 0
        self._stopped = threading.Event()
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def address(self) -> str:
        """`host:port` for the client."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection there is."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._listener.close()
        self.cut()

    def _wait_for(self, direction: Direction) -> None:
        """Return when a direction is open; whoever has something to pass on in it calls this first."""
        if direction in self.stalled:
            self.held_back += 1
        while direction in self.stalled and not self._stopped.is_set():
            self._stopped.wait(_LOOK_SECONDS)

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Serve one connection to its end, and close it."""

    def _admits(self) -> bool:
        """Whether connections are taken; asked before each and every 0.1 s."""
        return True

    def _accept(self) -> None:
        while not self._stopped.is_set():
            if not self._admits():
                self.cut()
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if not self._admits():
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()
