"""Tries ports, and tells which of them answered.

A program that runs on hosts with nothing but their Python: `python3 - SETTINGS`, where SETTINGS is JSON with `source` (an address of
this host, or empty), `addresses`, `ports` (by protocol) and `seconds`. It prints JSON, `[address, protocol, port, answer]` for each
port that answered. The answer is `open`, or `refused` where nobody listens behind a rule that lets packets through: what a filter
drops has no answer at all. A datagram is `open` when something came back.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import sys
import time

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
PENDING = {0, errno.EINPROGRESS}


def attempt(source: str, protocol: str, address: str, port: int) -> socket.socket | None:
    """Begin to connect; nothing where this host itself has no way there."""
    one = socket.socket(socket.AF_INET, KINDS[protocol])
    one.settimeout(0)
    if source:
        one.bind((source, 0))
    if one.connect_ex((address, port)) not in PENDING:
        one.close()
        return None
    if protocol == "udp":
        one.send(b"?")
    return one


def verdict(one: socket.socket, protocol: str) -> str:
    """Say how the attempt ended, empty for not at all."""
    try:
        if protocol == "udp":
            one.recv(16)
        elif error := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return "refused" if error == errno.ECONNREFUSED else ""
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return ""
    return "open"


def main() -> None:
    """Begin all attempts at once and collect answers until the time is over."""
    settings = json.loads(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    poll = select.epoll()
    waiting = {}
    for address in settings["addresses"]:
        for protocol, ports in settings["ports"].items():
            for port in ports:
                if one := attempt(settings["source"], protocol, address, port):
                    poll.register(one, select.EPOLLOUT if protocol == "tcp" else select.EPOLLIN)
                    waiting[one.fileno()] = (one, address, protocol, port)
    answers = []
    deadline = time.monotonic() + settings["seconds"]
    # Answers that are there count, however late this process gets to look.
    while waiting and ((events := poll.poll(max(deadline - time.monotonic(), 0))) or time.monotonic() < deadline):
        for number, _ in events:
            one, address, protocol, port = waiting.pop(number)
            poll.unregister(number)
            if answer := verdict(one, protocol):
                answers.append([address, protocol, port, answer])
            one.close()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
