"""Only what a system signed for a tenant, now, is read; and it has one effect, whatever is sent again or out of order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from falcon import testing
from prometheus_client import CollectorRegistry

from app.application.callbacks import CalledBack, Disposition, ReceivedCallback
from app.contracts.callbacks import SIGNATURE_HEADER, TIMESTAMP_HEADER, callback_path, signature, tenant_key
from app.entrypoints.callback.app import MAX_BODY_BYTES, Sender, create_app
from app.messaging.retry import Unavailable
from app.runtime.metrics import CallbackMetrics

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ORDER = UUID(int=7)
KEY = f"ci:acme:{ORDER}:provision-service:1"
SECRET = "secret-of-provisioning"
FORMER = "the former secret"
DOCUMENT = {
    "callbackId": "callback-1",
    "idempotencyKey": KEY,
    "orderId": str(ORDER),
    "id": "provisioning-1",
    "outcome": "done",
    "occurredAt": "2026-11-22T11:59:59+00:00",
}


@dataclass
class Store:
    """Callbacks and calls in memory; one tenant's transaction sees no other tenant's."""

    calls: dict[tuple[str, str], CalledBack] = field(default_factory=dict)
    stored: list[tuple[ReceivedCallback, Disposition]] = field(default_factory=list)
    is_away: bool = False
    tenant: str = ""

    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return 0.0

    @asynccontextmanager
    async def open(self, tenant: str) -> AsyncIterator[Store]:
        if self.is_away:
            raise Unavailable("database", "away")
        self.tenant = tenant
        yield self

    async def call_of(self, callback: ReceivedCallback) -> CalledBack | None:
        return self.calls.get((self.tenant, callback.idempotency_key)) if callback.order_id == ORDER else None

    async def add(self, callback: ReceivedCallback, disposition: Disposition) -> bool:
        decides = {"matched", "early"}
        for other, how in self.stored:
            if other.callback_id == callback.callback_id or (how in decides and disposition in decides):
                return False
        self.stored.append((callback, disposition))
        return True

    async def body_of(self, callback: ReceivedCallback) -> str | None:
        return next((other.body_sha256 for other, _ in self.stored if other.callback_id == callback.callback_id), None)


@pytest.fixture
def store() -> Store:
    """A store where acme's call of the order went out and was answered."""
    return Store({("acme", KEY): CalledBack("inProgress", "unknown")})


@pytest.fixture
def client(store: Store) -> testing.TestClient:
    """The receiver in front of it."""
    senders = {
        "provisioning": Sender((SECRET, FORMER), timedelta(minutes=5)),
        "payment": Sender(("other",), timedelta(minutes=5)),
    }
    return testing.TestClient(create_app(senders, store.open, store, CallbackMetrics(CollectorRegistry())))


def send(
    client: testing.TestClient,
    *,
    system: str = "provisioning",
    tenant: str = "acme",
    signed_as: str = "acme",
    secret: str = SECRET,
    at: datetime = NOON,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    **changes: Any,
) -> testing.Result:
    signed = json.dumps(DOCUMENT | changes).encode()
    stamp = int(at.timestamp())
    proof = {
        TIMESTAMP_HEADER: str(stamp),
        SIGNATURE_HEADER: signature(tenant_key(secret, "provisioning", signed_as), stamp, signed),
    }
    return client.simulate_post(callback_path(system, tenant), body=body or signed, headers=proof | (headers or {}))


def test_a_callback_is_written_down_once(client: testing.TestClient, store: Store) -> None:
    answers = [send(client) for _ in range(3)]

    assert [(answer.status_code, answer.json["result"]) for answer in answers] == [
        (200, "recorded"),
        (200, "repeated"),
        (200, "repeated"),
    ]
    ((callback, disposition),) = store.stored
    assert disposition == "matched"
    assert (callback.tenant_id, callback.external_reference, callback.outcome) == ("acme", "provisioning-1", "done")


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 200), (FORMER, 200), ("the one before", 401)])
def test_while_a_secret_is_rotated_both_are_taken_and_no_third(
    secret: str, status: int, client: testing.TestClient, store: Store
) -> None:
    assert send(client, secret=secret).status_code == status
    assert len(store.stored) == (status == 200)


def test_a_redelivery_with_a_new_timestamp_is_the_same_callback(client: testing.TestClient, store: Store) -> None:
    send(client)

    assert send(client, at=NOON + timedelta(minutes=4)).json["result"] == "repeated"
    assert len(store.stored) == 1


@pytest.mark.parametrize(
    "how",
    [
        {"headers": {SIGNATURE_HEADER: ""}},
        {"headers": {SIGNATURE_HEADER: "0" * 64}},
        {"headers": {SIGNATURE_HEADER: "ü"}},
        {"headers": {TIMESTAMP_HEADER: ""}},
        {"headers": {TIMESTAMP_HEADER: "now"}},
        {"headers": {TIMESTAMP_HEADER: "-1"}},
        {"headers": {TIMESTAMP_HEADER: "9" * 4400}},
        {"at": NOON - timedelta(minutes=5, seconds=1)},
        {"at": NOON + timedelta(minutes=5, seconds=1)},
        {"secret": "guessed"},
        {"signed_as": "other-tenant"},
        {"tenant": "other-tenant"},
        {"system": "payment"},
        {"body": json.dumps(DOCUMENT | {"outcome": "failed"}).encode()},
    ],
    ids=[
        "unsigned",
        "wrong signature",
        "signature that is none",
        "no time",
        "time that is none",
        "negative time",
        "endless time",
        "old",
        "from the future",
        "another secret",
        "another tenant's key",
        "another tenant's address",
        "another system's address",
        "altered body",
    ],
)
def test_what_is_not_signed_for_this_address_and_time_is_not_read(
    client: testing.TestClient, store: Store, how: dict[str, Any]
) -> None:
    assert send(client, **how).status_code == 401
    assert store.stored == []


def test_another_tenants_order_looks_like_none(client: testing.TestClient, store: Store) -> None:
    foreign = send(client, tenant="rival", signed_as="rival")
    missing = send(client, idempotencyKey="ci:acme:none:provision-service:1")
    elsewhere = send(client, orderId=str(UUID(int=8)))

    assert {answer.status_code for answer in (foreign, missing, elsewhere)} == {404}
    assert foreign.content == missing.content == elsewhere.content
    assert store.stored == []


@pytest.mark.parametrize("address", ["/v1/callbacks/crm/acme", "/v1/callbacks/provisioning/A;B", "/v1/callbacks/x"])
def test_no_such_address(client: testing.TestClient, address: str) -> None:
    assert client.simulate_post(address, body=b"{}").status_code == 404


def test_an_identifier_with_another_body_is_refused(client: testing.TestClient, store: Store) -> None:
    send(client)

    assert send(client, outcome="failed").status_code == 409
    assert [callback.outcome for callback, _ in store.stored] == ["done"]


def test_the_first_callback_decides_and_the_other_is_kept(client: testing.TestClient, store: Store) -> None:
    send(client)

    second = send(client, callbackId="callback-2", outcome="failed", occurredAt="2026-11-22T11:00:00+00:00")

    assert (second.status_code, second.json["result"]) == (200, "recorded")
    assert [(callback.outcome, how) for callback, how in store.stored] == [("done", "matched"), ("failed", "surplus")]
    assert send(client, callbackId="callback-2", outcome="failed", occurredAt="2026-11-22T11:00:00+00:00").json == {
        "callbackId": "callback-2",
        "result": "repeated",
    }


@pytest.mark.parametrize(
    ("call", "disposition"),
    [
        (CalledBack("inProgress", "prepared"), "early"),
        (CalledBack("inProgress", "unknown"), "matched"),
        (CalledBack("cancelled", "unknown"), "late"),
        (CalledBack("completed", "succeeded"), "late"),
    ],
)
def test_when_it_came_is_kept(client: testing.TestClient, store: Store, call: CalledBack, disposition: str) -> None:
    store.calls["acme", KEY] = call

    assert send(client).status_code == 200
    assert [how for _, how in store.stored] == [disposition]


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "maybe"},
        {"callbackId": "short"},
        {"orderId": "7"},
        {"occurredAt": "yesterday"},
        {"occurredAt": "2026-11-22T11:59:59"},
        {"tenantId": "rival"},
        {"id": "a\0b"},
        {"id": "a\ud800b"},
        {"detail": "a\n\0b"},
        {"idempotencyKey": f"{KEY}\0"},
        {"callbackId": "callback-1\0"},
    ],
)
def test_a_signed_body_that_is_no_callback_is_refused(
    client: testing.TestClient, store: Store, changes: dict[str, Any]
) -> None:
    assert send(client, **changes).status_code == 422
    assert store.stored == []


@pytest.mark.parametrize("body", [b"[" * MAX_BODY_BYTES, b'{"id":' * 2000, b'{"more":' + b"[" * 10_000])
def test_a_signed_body_without_a_bottom_is_refused(client: testing.TestClient, store: Store, body: bytes) -> None:
    proof = {SIGNATURE_HEADER: signature(tenant_key(SECRET, "provisioning", "acme"), int(NOON.timestamp()), body)}

    assert send(client, headers=proof, body=body).status_code == 422
    assert store.stored == []


def test_a_body_over_the_limit_is_not_read_to_its_end(client: testing.TestClient) -> None:
    assert send(client, body=b" " * (MAX_BODY_BYTES + 1)).status_code == 413


def test_without_a_database_the_sender_is_asked_to_try_again(client: testing.TestClient, store: Store) -> None:
    store.is_away = True

    answer = send(client)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_an_unforeseen_error_tells_nothing(client: testing.TestClient, store: Store, monkeypatch: Any) -> None:
    async def broken(_: ReceivedCallback) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(store, "call_of", broken)
    answer = send(client)

    assert answer.status_code == 500
    assert "canary" not in answer.text
