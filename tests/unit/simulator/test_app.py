"""The simulator's interface: tokens that verify, effects that happen once, behaviour set at run time, a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from falcon import testing
from prometheus_client import CollectorRegistry

from app.contracts.loader import load_external_systems
from app.entrypoints.simulator.app import create_app
from app.entrypoints.simulator.behaviours import Behaviours
from app.entrypoints.simulator.callbacks import Finisher
from app.entrypoints.simulator.external_system_resource import Surroundings
from app.entrypoints.simulator.issuer import ALGORITHM, KEY_FILE, Issuer
from app.entrypoints.simulator.ledger import Ledger
from app.runtime.clock import SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.metrics import SimulatorMetrics
from app.runtime.shutdown import Shutdown

URL = "http://simulator:8090/issuer"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ORDER = {"orderId": "o-1", "tenantId": "acme", "items": []}
RESERVATIONS = "/inventory/v1/reservations"
SYSTEMS = load_external_systems()


@pytest.fixture
def shutdown() -> Shutdown:
    """A stop that a test may request."""
    return Shutdown()


@pytest.fixture
def client(tmp_path: Path, shutdown: Shutdown) -> Iterator[testing.TestClient]:
    """The application on a state directory of its own."""
    ledger = Ledger(tmp_path / "ledger.sqlite3", SystemClock(), UuidV7Ids())
    finisher = Finisher(ledger, {}, SystemClock(), UuidV7Ids())
    metrics = SimulatorMetrics(CollectorRegistry())
    yield testing.TestClient(
        create_app(
            issuer=Issuer(URL, "cpq-oms", tmp_path, SystemClock(), UuidV7Ids()),
            client_secrets=["of-the-client"],
            systems=SYSTEMS,
            tokens={system: [f"{system}-token"] for system in SYSTEMS},
            environment="tests",
            kind="non-production",
            around=Surroundings(Behaviours(SYSTEMS), ledger, finisher, metrics, shutdown),
        )
    )
    ledger.close()


def token(client: testing.TestClient, **changes: str) -> testing.Result:
    form = {
        "grant_type": "client_credentials",
        "client_id": "tests",
        "client_secret": "of-the-client",
        "tenant": "acme",
        "scope": "quote:read quote:write",
    } | changes
    body = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in form.items())
    return client.simulate_post("/issuer/token", body=body, headers=FORM)


def reserve(client: testing.TestClient, key: str = "key-1", request: Any = ORDER, **headers: str) -> testing.Result:
    return client.simulate_post(
        RESERVATIONS,
        json=request,
        headers={"Authorization": "Bearer inventory-token", "Idempotency-Key": key} | headers,
    )


def find(client: testing.TestClient, key: str = "key-1") -> testing.Result:
    return client.simulate_get(
        RESERVATIONS, params={"idempotencyKey": key}, headers={"Authorization": "Bearer inventory-token"}
    )


def behave(client: testing.TestClient, **behaviour: Any) -> testing.Result:
    return client.simulate_put("/control/behaviours/inventory", json=behaviour)


def effects(client: testing.TestClient) -> list[str]:
    return [effect["idempotencyKey"] for effect in client.simulate_get("/control/ledger").json["effects"]]


def test_a_token_verifies_against_the_published_keys(client: testing.TestClient) -> None:
    issued = token(client).json
    keys = jwt.PyJWKSet.from_dict(client.simulate_get("/issuer/jwks.json").json)
    header = jwt.get_unverified_header(issued["access_token"])

    claims = jwt.decode(
        issued["access_token"], keys[header["kid"]].key, algorithms=[ALGORITHM], audience="cpq-oms", issuer=URL
    )

    assert (claims["sub"], claims["tenant"], claims["scope"]) == ("tests", "acme", "quote:read quote:write")
    assert claims["exp"] - claims["iat"] == issued["expires_in"] == 300
    assert claims["jti"]


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "guessed"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"tenant": "A;"}, 400, "invalid_request"),
        ({"client_id": ""}, 400, "invalid_request"),
        ({"scope": "everything"}, 400, "invalid_scope"),
    ],
)
def test_a_wrong_request_gets_no_token(
    client: testing.TestClient, changes: dict[str, str], status: int, error: str
) -> None:
    result = token(client, **changes)

    assert (result.status_code, result.json["error"]) == (status, error)


def test_the_metadata_names_the_endpoints(client: testing.TestClient) -> None:
    metadata = client.simulate_get("/issuer/.well-known/openid-configuration").json

    assert (metadata["issuer"], metadata["jwks_uri"]) == (URL, f"{URL}/jwks.json")
    assert metadata["token_endpoint"] == f"{URL}/token"


def test_the_key_outlives_a_restart_and_is_nobody_elses(tmp_path: Path) -> None:
    first, second = (Issuer(URL, "cpq-oms", tmp_path, SystemClock(), UuidV7Ids()) for _ in range(2))

    assert first.jwks() == second.jwks()
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_the_same_key_has_one_effect_and_one_answer(client: testing.TestClient) -> None:
    first, second = reserve(client), reserve(client)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json == second.json
    assert effects(client) == ["key-1"]


def test_a_key_with_another_request_is_refused(client: testing.TestClient) -> None:
    reserve(client)

    result = reserve(client, request=ORDER | {"items": [1]})

    assert result.status_code == 422
    assert effects(client) == ["key-1"]


@pytest.mark.parametrize(
    ("key", "request_body", "headers", "status"),
    [
        ("", ORDER, {}, 400),
        ("k" * 256, ORDER, {}, 400),
        ("key", {"orderId": "o-1"}, {}, 422),
        ("key", [], {}, 422),
        ("key", ORDER, {"Authorization": "Bearer billing-token"}, 401),
    ],
)
def test_a_wrong_call_has_no_effect(
    client: testing.TestClient, key: str, request_body: Any, headers: dict[str, str], status: int
) -> None:
    assert reserve(client, key, request_body, **headers).status_code == status
    assert effects(client) == []


def test_a_query_tells_what_was_done(client: testing.TestClient) -> None:
    assert find(client).json == {"items": []}

    done = reserve(client)

    assert find(client).json == {"items": [done.json]}


@pytest.mark.parametrize(
    ("behaviour", "status", "acted"),
    [
        ({"mode": "ok"}, 201, True),
        ({"mode": "error"}, 500, False),
        ({"mode": "error", "status": 429}, 429, False),
        ({"mode": "act-then-error", "status": 503}, 503, True),
    ],
)
def test_a_mode_decides_effect_and_answer(
    client: testing.TestClient, behaviour: dict[str, Any], status: int, acted: bool
) -> None:
    behave(client, **behaviour)

    assert reserve(client).status_code == status
    assert effects(client) == (["key-1"] if acted else [])
    assert find(client).status_code == 200


def test_a_page_for_people_is_no_answer_though_the_work_is_done(client: testing.TestClient) -> None:
    behave(client, mode="act-then-wrong-content-type")

    result = reserve(client)

    assert (result.status_code, result.headers["content-type"].partition(";")[0]) == (201, "text/html")
    assert effects(client) == ["key-1"]


def test_a_system_that_forgets_its_keys_works_twice(client: testing.TestClient) -> None:
    reserve(client)
    behave(client, mode="act-twice", remaining=1)

    assert [reserve(client).status_code for _ in range(2)] == [201, 200]
    assert effects(client) == ["key-1", "key-1"]


def test_the_wish_for_a_pause_is_sent_along(client: testing.TestClient) -> None:
    behave(client, mode="error", status=429, retry_after=7)

    assert reserve(client).headers["retry-after"] == "7"


def test_a_rule_holds_for_the_calls_it_names_and_is_used_up(client: testing.TestClient) -> None:
    for rule in ({"mode": "error", "remaining": 1}, {"mode": "error", "status": 409, "order_id": "o-2"}):
        assert client.simulate_post("/control/behaviours/inventory", json=rule).status_code == 201

    assert [reserve(client, key).status_code for key in ("e:t:o-1:s:1", "e:t:o-1:s:1", "e:t:o-2:s:1")] == [
        500,
        201,
        409,
    ]
    assert [rule["status"] for rule in client.simulate_get("/control/behaviours").json["inventory"]["rules"]] == [409]
    behave(client)
    assert client.simulate_get("/control/behaviours").json["inventory"]["rules"] == []


def test_accepted_work_is_told_of_until_it_ends(client: testing.TestClient, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3", SystemClock(), UuidV7Ids())
    plan = ledger.plan(timedelta(), "failed", "none", None)
    effect, _ = ledger.perform("inventory", "key-1", ORDER, plan)

    assert reserve(client).status_code == 202
    assert find(client).json["items"][0]["state"] == "accepted"
    assert [waiting.reference for waiting in ledger.unfinished()] == [effect.reference]

    ledger.finish(effect)
    ledger.close()

    assert find(client).json["items"][0]["state"] == "failed"
    assert reserve(client).status_code == 422


@pytest.mark.parametrize(("told", "later"), [({"finishes_after": "PT0S"}, False), ({}, True)])
def test_accepted_work_ends_when_it_is_told_to_even_if_that_is_now(
    client: testing.TestClient, tmp_path: Path, told: dict[str, str], later: bool
) -> None:
    behaviour = {"answers": "accepted", "callbacks": "none", **told}
    client.simulate_put("/control/behaviours/payment", json=behaviour)
    headers = {"Authorization": "Bearer payment-token", "Idempotency-Key": "key-1"}
    before = datetime.now(UTC)
    assert client.simulate_post("/payment/v1/payments", json=ORDER, headers=headers).status_code == 202
    after = datetime.now(UTC)

    ledger = Ledger(tmp_path / "ledger.sqlite3", SystemClock(), UuidV7Ids())
    effect = ledger.find("payment", "key-1")
    ledger.close()

    assert effect is not None
    declared = SYSTEMS["payment"].sandbox.finishes_after or timedelta()
    wait = declared if later else timedelta()
    assert effect.plan is None or before + wait <= effect.plan.finishes_at <= after + wait
    assert effect.plan is not None or not later


def test_a_system_lists_what_it_did_from_a_moment_on(client: testing.TestClient) -> None:
    done = reserve(client).json
    headers = {"Authorization": "Bearer inventory-token"}

    def listed(since: str) -> Any:
        return client.simulate_get(RESERVATIONS, params={"since": since}, headers=headers).json

    assert listed("2026-01-01T00:00:00Z") == {"items": [done], "isWhole": True}
    assert listed("2999-01-01T00:00:00+00:00") == {"items": [], "isWhole": True}


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_declared_system_works_and_proves_its_environment(client: testing.TestClient, system: str) -> None:
    policy = SYSTEMS[system]
    headers = {"Authorization": f"Bearer {system}-token", policy.idempotency_key.header: "key-1"}
    client.simulate_put(f"/control/behaviours/{system}", json={"answers": "done"})

    done = client.simulate_post(f"/{system}/{policy.endpoint.collection}", json=ORDER, headers=headers)

    assert (done.status_code, done.json["state"]) == (201, "done")
    proof = f"/{system}/.well-known/environment"
    assert client.simulate_get(proof).json == {"environment": "tests", "kind": "non-production"}
    client.simulate_put(f"/control/environment/{system}", json={"environment": "prod", "kind": "production"})
    assert client.simulate_get(proof).json["kind"] == "production"
    client.simulate_put(f"/control/environment/{system}", json={})
    assert client.simulate_get(proof).status_code == 404
    client.simulate_delete(f"/control/environment/{system}")
    assert client.simulate_get(proof).json["kind"] == "non-production"


@pytest.mark.parametrize(("mode", "acted"), [("hang", False), ("act-then-timeout", True)])
def test_a_call_that_is_not_answered_ends_with_the_simulator(
    client: testing.TestClient, shutdown: Shutdown, mode: str, acted: bool
) -> None:
    behave(client, mode=mode)
    shutdown.request()

    assert reserve(client).status_code == 504
    assert effects(client) == (["key-1"] if acted else [])


def test_a_broken_reply_is_no_json_though_the_work_is_done(client: testing.TestClient) -> None:
    behave(client, mode="act-then-broken-reply")

    result = reserve(client)

    assert (result.status_code, result.text) == (201, '{"id": "')
    assert effects(client) == ["key-1"]


def test_a_behaviour_ends_after_the_calls_it_is_for(client: testing.TestClient) -> None:
    behave(client, mode="error", remaining=2)

    assert [reserve(client).status_code for _ in range(3)] == [500, 500, 201]


def test_latency_is_waited_before_the_work(client: testing.TestClient) -> None:
    behave(client, latency="PT0.2S")
    before = datetime.now(UTC)

    reserve(client)

    assert datetime.now(UTC) - before >= timedelta(seconds=0.2)


@pytest.mark.parametrize(
    "behaviour",
    [{"mode": "explode"}, {"latency": "PT1H"}, {"status": 200}, {"remaining": 0}, {"delay": "PT1S"}],
)
def test_what_is_no_behaviour_is_refused_and_changes_nothing(
    client: testing.TestClient, behaviour: dict[str, Any]
) -> None:
    assert behave(client, **behaviour).status_code == 422
    assert client.simulate_get("/control/behaviours").json["inventory"]["mode"] == "ok"


def test_an_unknown_system_is_named(client: testing.TestClient) -> None:
    result = client.simulate_put("/control/behaviours/nobody", json={})

    assert result.status_code == 404
    assert "inventory" in result.json["title"]


def test_the_ledger_outlives_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path / "ledger.sqlite3", SystemClock(), UuidV7Ids())
        ledger.perform("inventory", "key-1", ORDER)
        assert [effect.idempotency_key for effect in ledger.effects("o-1")] == ["key-1"]
        ledger.close()


async def test_calls_under_one_key_at_the_same_time_have_one_effect(client: testing.TestClient) -> None:
    async with testing.ASGIConductor(client.app) as conductor:
        await conductor.simulate_put("/control/behaviours/inventory", json={"latency": "PT0.05S"})
        headers = {"Authorization": "Bearer inventory-token", "Idempotency-Key": "key-1"}
        results = await asyncio.gather(
            *(conductor.simulate_post(RESERVATIONS, json=ORDER, headers=headers) for _ in range(5))
        )

    assert sorted(result.status_code for result in results) == [200, 200, 200, 200, 201]
