"""What disagrees between our attempts and what a system says it did; and that its list is read to the end, or not believed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from app.adapters.http.effect_list import HttpEffectList, SystemNotComparedError
from app.application.external_reconciliation import ListedEffect, WrittenCall, compare
from app.contracts.loader import ExternalReconciliation, load_external_systems
from tests.support.builders import NOON

POLICY = ExternalReconciliation.model_validate({"looks_back": "P1D", "grace": "PT5M"})
BILLING = load_external_systems()["billing"]


@dataclass
class Books:
    """Both sides, in memory."""

    calls: list[WrittenCall] = field(default_factory=list)
    open_calls: list[WrittenCall] = field(default_factory=list)
    effects: list[ListedEffect] = field(default_factory=list)

    async def began_between(self, system: str, start: datetime, end: datetime) -> list[WrittenCall]:
        return [call for call in self.calls if start <= call.began_at <= end]

    async def open_between(self, system: str, start: datetime, end: datetime) -> list[WrittenCall]:
        return [call for call in self.open_calls if start <= call.began_at <= end]

    async def known(self, system: str, keys: Collection[str]) -> frozenset[str]:
        return frozenset(call.idempotency_key for call in self.calls) & frozenset(keys)

    async def since(self, moment: datetime) -> list[ListedEffect]:
        return [effect for effect in self.effects if effect.performed_at >= moment]


def call(key: str, *, ago: float, has_succeeded: bool = True) -> WrittenCall:
    return WrittenCall("acme", key, NOON - timedelta(minutes=ago), has_succeeded)


def effect(key: str, *, ago: float, reference: str = "billing-1") -> ListedEffect:
    return ListedEffect(reference, key, NOON - timedelta(minutes=ago))


async def found(books: Books) -> list[tuple[str, str]]:
    findings = await compare("billing", POLICY, books, books, NOON)
    return [(finding.kind, finding.idempotency_key) for finding in findings]


async def test_where_both_sides_agree_there_is_nothing() -> None:
    books = Books([call("a", ago=10), call("b", ago=10, has_succeeded=False)], [], [effect("a", ago=9)])

    assert await found(books) == []


async def test_each_disagreement_is_found() -> None:
    books = Books(
        calls=[call("only-here", ago=60), call("twice", ago=50)],
        open_calls=[call("open", ago=30, has_succeeded=False)],
        effects=[
            effect("only-there", ago=40),
            effect("twice", ago=50, reference="billing-2"),
            effect("twice", ago=49, reference="billing-3"),
        ],
    )

    assert await found(books) == [
        ("attempt-without-effect", "only-here"),
        ("effect-repeated", "twice"),
        ("effect-without-attempt", "only-there"),
        ("attempt-open", "open"),
    ]


async def test_what_is_fresher_than_the_grace_or_older_than_the_window_is_left_out() -> None:
    books = Books(
        calls=[call("fresh", ago=4), call("old", ago=60 * 25)],
        open_calls=[call("fresh", ago=4, has_succeeded=False)],
        effects=[effect("fresh-there", ago=4)],
    )

    assert await found(books) == []


async def test_an_effect_counts_that_is_just_outside_of_the_calls_window() -> None:
    first, last = call("first", ago=60 * 24 - 1), call("last", ago=6)

    books = Books([first, last], [], [effect("first", ago=60 * 24 + 1), effect("last", ago=4)])

    assert await found(books) == []


def item(number: int, key: str = "ci:acme:o:s:1", **changes: Any) -> dict[str, Any]:
    moment = NOON + timedelta(seconds=number)
    return {"id": f"r-{number}", "idempotencyKey": key, "performedAt": moment.isoformat(), "state": "done"} | changes


def listing(pages: Callable[[httpx.Request], Any], proof: str = "non-production") -> tuple[HttpEffectList, list[str]]:
    """A list whose pages a test makes; what was asked for with our credential is noted."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/.well-known/environment"):
            assert "Authorization" not in request.headers
            return httpx.Response(200, json={"environment": "there", "kind": proof})
        assert request.headers["Authorization"] == "Bearer secret"
        asked.append(request.url.params["since"])
        answer = pages(request)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False)
    effects = HttpEffectList(
        client, "billing", BILLING, base_url="http://there", token="secret", kind="non-production", environment="ci"
    )
    return effects, asked


async def test_the_list_is_read_page_by_page_and_nothing_counts_twice() -> None:
    pages = [
        {"items": [item(1), item(2)], "isWhole": False},
        {"items": [item(2), item(3, key="elsewhere:acme:o:s:1"), item(4, state="failed")], "isWhole": True},
    ]
    effects, asked = listing(lambda _: pages.pop(0))

    listed = await effects.since(NOON)

    assert [each.reference for each in listed] == ["r-1", "r-2"]
    assert asked == [NOON.isoformat(), (NOON + timedelta(seconds=2)).isoformat()]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503),
        httpx.Response(401, json={"items": [], "isWhole": True}),
        httpx.Response(200, text="fine"),
        {"items": []},
        {"items": {}, "isWhole": True},
        {"items": ["r-1"], "isWhole": True},
        {"items": [item(1, id="")], "isWhole": True},
        {"items": [item(1, performedAt="yesterday")], "isWhole": True},
        {"items": [item(1, performedAt="2026-11-22T12:00:00")], "isWhole": True},
        {"items": [item(0)], "isWhole": False},
        {"items": [], "isWhole": False},
    ],
)
async def test_a_list_that_cannot_be_relied_on_is_no_comparison(answer: Any) -> None:
    effects, _ = listing(lambda _: answer)

    with pytest.raises(SystemNotComparedError, match="billing: "):
        await effects.since(NOON)


async def test_an_endpoint_of_another_environment_is_not_sent_our_credential() -> None:
    effects, asked = listing(lambda _: {"items": [], "isWhole": True}, proof="production")

    with pytest.raises(SystemNotComparedError, match="belongs to 'there', which is production"):
        await effects.since(NOON)
    assert asked == []
