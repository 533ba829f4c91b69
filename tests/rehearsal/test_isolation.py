"""Nothing in a rehearsal, Ansible included, can reach what is outside of it, though it knows the real addresses."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.rehearsal import Rehearsal


@contextmanager
def real_service() -> Iterator[tuple[str, int, list[str]]]:
    """Serve on this machine's own address, outside of every rehearsal, and note who connects."""
    route = subprocess.run(
        ["ip", "-o", "route", "get", "192.0.2.250"], capture_output=True, text=True, check=False
    ).stdout
    address = route.partition(" src ")[2].split()[0] if " src " in route else "127.0.0.1"
    callers: list[str] = []
    with socket.create_server((address, 0)) as server:
        server.settimeout(0.2)
        is_over = threading.Event()

        def serve() -> None:
            while not is_over.is_set():
                try:
                    connection, peer = server.accept()
                except TimeoutError:
                    continue
                callers.append(peer[0])
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address, server.getsockname()[1], callers
        finally:
            is_over.set()
            thread.join()


def test_neither_hosts_nor_ansible_reach_a_service_outside(rehearsal: Rehearsal) -> None:
    with real_service() as (address, port, callers):
        # The service is real: from here it answers.
        socket.create_connection((address, port), timeout=5).close()
        seen = threading.Event()
        while not callers and not seen.wait(0.1):
            pass
        callers.clear()
        attempt = f"timeout 3 bash -c 'echo > /dev/tcp/{address}/{port}'"

        from_host = rehearsal.run(rehearsal.groups["api"][0], attempt, check=False)
        module = [
            "ansible",
            "localhost",
            "-c",
            "local",
            "-m",
            "wait_for",
            "-a",
            f"host={address} port={port} timeout=3",
        ]
        from_ansible = rehearsal.in_namespace([*module, "-i", f"inventories/{rehearsal.environment}"], check=False)

    assert from_host.returncode != 0
    assert from_ansible.returncode != 0
    assert callers == []


def test_there_is_no_way_out(rehearsal: Rehearsal) -> None:
    routes = rehearsal.in_namespace(["ip", "-o", "route"]).stdout.splitlines()
    assert [line.split()[0] for line in routes] == [rehearsal.variables["cpq_subnet"]]


@pytest.mark.parametrize("path", ["/etc/ssh/ssh_config", "/etc/hosts", "/etc/resolv.conf"])
def test_programs_in_it_see_its_own_files(rehearsal: Rehearsal, path: str) -> None:
    outside = subprocess.run(["cat", path], capture_output=True, text=True, check=False).stdout
    assert rehearsal.in_namespace(["cat", path]).stdout != outside
