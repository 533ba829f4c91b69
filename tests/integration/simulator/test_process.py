"""The simulator as a unit: READY when it serves, a fed watchdog, a stop that waits for nobody, a ledger that survives."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request

from tests.integration.simulator.conftest import StartSimulator
from tests.support.unit_process import UnitProcess


def call(port: int, path: str, method: str = "GET", body: object = None, **headers: str) -> object:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def reserve(port: int, key: str) -> object:
    order = {"orderId": "o-1", "tenantId": "acme"}
    headers = {"Authorization": "Bearer inventory-token", "Idempotency-Key": key}
    return call(port, "/inventory/v1/reservations", "POST", order, **headers)


def test_a_ready_simulator_serves_and_feeds_its_watchdog(start: StartSimulator, port: int) -> None:
    simulator = start(watchdog_seconds=3.0).wait_ready()

    assert call(port, "/health/ready") == {"status": "ready"}
    for _ in range(3):
        assert simulator.wait_for("WATCHDOG=1", 2.0)
    simulator.terminate()
    assert simulator.wait() == 0


def test_effects_and_keys_survive_a_crash(start: StartSimulator, port: int) -> None:
    first = start().wait_ready()
    keys, effect = call(port, "/issuer/jwks.json"), reserve(port, "key-1")

    first.kill()
    start().wait_ready()

    assert call(port, "/issuer/jwks.json") == keys
    assert reserve(port, "key-1") == effect


def test_a_stop_does_not_wait_for_calls_that_hang(start: StartSimulator, port: int) -> None:
    simulator = start().wait_ready()
    call(port, "/control/behaviours/inventory", "PUT", {"mode": "hang"})
    statuses: list[int] = []

    def hang() -> None:
        try:
            reserve(port, "key-1")
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
            error.close()

    caller = threading.Thread(target=hang)
    caller.start()
    while not call(port, "/control/ledger")["requests"]:  # type: ignore[index]
        pass
    simulator.terminate()

    assert simulator.wait(10) == 0
    caller.join()
    assert statuses == [504]


def test_a_taken_port_is_named_and_nothing_is_ready(start: StartSimulator, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        simulator = start()

        assert simulator.wait() == 1
        assert "address is not usable" in simulator.log


def test_missing_settings_are_all_named() -> None:
    simulator = UnitProcess("simulator", {}, {"issuer-client-secret": "x"})
    try:
        assert simulator.wait() == 78
        named = {line.partition(":")[0] for line in simulator.log.splitlines()}
        assert {"HTTP_BIND", "ISSUER_URL", "AUTH_AUDIENCE", "STATE_DIRECTORY", "credential inventory-token"} <= named
    finally:
        simulator.close()
