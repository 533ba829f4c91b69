"""Prices of two releases are compared line by line: a cent is found and named, and files of other quotes are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.application.canary.prices import TOTAL, PricedLine, Repriced, compare, reprice
from app.domain.canary import Cohort
from app.domain.quote import Quote
from app.domain.values import CustomerId, QuoteId, TenantId
from tests.support.builders import FIBER, NOON, fiber

QUOTE = QuoteId(UUID(int=7))
ACME = Cohort.parse("tenant:acme")


def accepted(*quantities: int) -> Quote:
    draft, _ = Quote.draft(
        quote_id=QUOTE,
        tenant_id=TenantId("acme"),
        customer_id=CustomerId("c-1"),
        currency="EUR",
        catalog_version=1,
        valid_until=NOON + timedelta(days=1),
        items=[(fiber(), quantity) for quantity in quantities],
        created_by="tests",
        now=NOON,
    )
    priced, _ = draft.price({FIBER: fiber()}, NOON)
    quote, _ = priced.accept(NOON + timedelta(hours=1))
    return quote


def repriced(lines: list[PricedLine], release: str = "former", **changes: Any) -> Repriced:
    values: dict[str, Any] = {
        "release": release,
        "cohort": "tenant:acme",
        "since": NOON,
        "until": NOON + timedelta(days=3),
        "lines": tuple(lines),
    }
    return Repriced(**values | changes)


def test_the_same_code_prices_a_quote_as_it_was_priced_also_when_it_is_no_longer_valid() -> None:
    quote = replace(accepted(1, 10), updated_at=NOON + timedelta(days=2))
    total, *lines = reprice(quote, {FIBER: fiber()})

    assert [(line.line, line.one_time, line.recurring) for line in lines] == [
        (1, Decimal("49.90"), Decimal("39.95")),
        (2, Decimal("499.00"), Decimal("349.56")),
    ]
    assert (total.line, total.one_time, total.recurring) == (TOTAL, Decimal("548.90"), Decimal("389.51"))
    assert (total.one_time, total.recurring) == (
        quote.total_one_time and quote.total_one_time.amount,
        quote.total_recurring and quote.total_recurring.amount,
    )


@given(quantity=st.integers(1, 500), cents=st.integers(1, 5))
def test_any_number_of_cents_is_found_in_line_and_total_and_named(quantity: int, cents: int) -> None:
    quote = accepted(quantity, 3)
    before = reprice(quote, {FIBER: fiber()})
    assert before[1].one_time is not None
    other = before[1].one_time + Decimal(cents) / 100
    after = [before[0], before[1].model_copy(update={"one_time": other}), before[2]]
    compared = compare(ACME, repriced(before), repriced(after, "latter"))

    assert compared.lines == 3
    [difference] = compared.differences
    assert difference.startswith(f"quote {QUOTE} line 1: {other} EUR once")
    assert f"by former {before[1].one_time} EUR once" in difference


def test_a_refusal_to_price_is_a_difference_of_every_line() -> None:
    quote = accepted(1)
    before, after = reprice(quote, {FIBER: fiber()}), reprice(quote, {FIBER: replace(fiber(), prices=())})

    assert {line.refused for line in after} == {"offering-not-priced"}
    assert len(compare(ACME, repriced(before), repriced(after, "latter")).differences) == 2
    assert compare(ACME, repriced(after), repriced(after, "latter")).differences == []


def test_an_offering_that_is_gone_is_a_refusal_and_no_crash() -> None:
    assert {line.refused for line in reprice(accepted(1), {})} == {"offering-not-found"}


def test_quotes_accepted_while_the_two_were_priced_are_no_difference_and_others_in_one_file_alone_are_named() -> None:
    lines = reprice(accepted(1), {FIBER: fiber()})
    early = repriced([], until=NOON + timedelta(minutes=30))
    late = repriced([], until=NOON + timedelta(hours=2))

    assert compare(ACME, early, repriced(lines, "latter")).alone == []
    assert compare(ACME, late, repriced(lines, "latter")).alone == [f"quote {QUOTE} total", f"quote {QUOTE} line 1"]


def test_prices_of_other_quotes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="prices of latter: cohort: expected tenant:acme, found percent:5"):
        compare(ACME, repriced([]), repriced([], "latter", cohort="percent:5"))
    with pytest.raises(ValueError, match="prices of different times"):
        compare(ACME, repriced([]), repriced([], "latter", since=NOON - timedelta(days=1)))
    lines = reprice(accepted(1), {FIBER: fiber()})
    with pytest.raises(ValueError, match="line 1 is there twice"):
        compare(ACME, repriced([*lines, lines[1]]), repriced(lines, "latter"))


def test_what_was_written_is_read_again() -> None:
    written = repriced(reprice(accepted(1, 10), {FIBER: fiber()}))
    document = json.loads(json.dumps(written.model_dump(mode="json")))

    assert Repriced.model_validate(document) == written


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"one_time": 49.9}, "lines.0.one_time\n.*amount is text"),
        ({"one_time": "NaN"}, "lines.0.one_time\n.*finite"),
        ({"one_time": "1,00"}, "lines.0.one_time\n.*'1,00' is no amount"),
        ({"one_time": None}, "lines.0\n.*both amounts"),
        ({"line": None}, "lines.0.line"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(change: dict[str, Any], named: str) -> None:
    document = repriced(reprice(accepted(1), {FIBER: fiber()})).model_dump(mode="json")
    document["lines"][0] |= change

    with pytest.raises(ValueError, match=named):
        Repriced.model_validate(document)
