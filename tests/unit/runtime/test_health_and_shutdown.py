from __future__ import annotations

import asyncio
import os
import signal

from app.runtime.clock import SystemClock
from app.runtime.health import DependencyStatus, Status, diagnostics, overall, tcp_reachability
from app.runtime.shutdown import Shutdown


async def test_a_listening_port_is_up_and_a_closed_one_names_the_lost_ability() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    up = await tcp_reachability(SystemClock(), "kafka", f"127.0.0.1:1,127.0.0.1:{port}", "events are not published")
    server.close()
    await server.wait_closed()
    down = await tcp_reachability(SystemClock(), "kafka", f"127.0.0.1:{port}", "events are not published")

    assert up.status is Status.UP
    assert "lostAbility" not in up.document()
    assert down.status is Status.DOWN
    assert down.document()["lostAbility"] == "events are not published"
    assert str(port) in down.detail


async def test_a_malformed_address_is_a_finding_and_not_a_crash() -> None:
    status = await tcp_reachability(SystemClock(), "kafka", "nowhere", "x")

    assert status.status is Status.DOWN


def test_only_a_required_dependency_takes_the_unit_down() -> None:
    required = DependencyStatus("database", Status.DOWN, required=True, lost_ability="everything", detail="refused")
    optional = DependencyStatus("kafka", Status.DOWN, required=False, lost_ability="publishing", detail="refused")

    assert overall([]) is Status.UP
    assert overall([optional]) is Status.DEGRADED
    assert overall([optional, required]) is Status.DOWN
    assert diagnostics([optional])["status"] == "degraded"


async def test_sigterm_requests_the_shutdown_and_ends_a_sleep() -> None:
    shutdown = Shutdown.on_signals()
    asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)

    try:
        assert await shutdown.sleep(30)
        assert shutdown.requested
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_sleep_ends_by_itself() -> None:
    assert not await Shutdown().sleep(0.01)
