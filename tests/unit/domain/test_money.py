from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import CurrencyMismatch, MoneyNotRepresentable
from app.domain.values import LIMIT, Money, minor_unit_digits

CURRENCIES = st.sampled_from(["EUR", "USD", "JPY", "KWD"])
AMOUNTS = st.decimals(min_value=-(10**14), max_value=10**14, allow_nan=False, allow_infinity=False, places=9)


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3)])
def test_a_currency_has_its_own_minor_unit(currency: str, digits: int) -> None:
    assert minor_unit_digits(currency) == digits


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "E1", "ÄÖÜ"])
def test_what_is_no_currency_code_is_refused(currency: str) -> None:
    with pytest.raises(MoneyNotRepresentable):
        Money(Decimal(1), currency)


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("0.001", "EUR"), ("0.5", "JPY"), ("1.2345", "KWD"), ("NaN", "EUR"), ("Infinity", "EUR"), ("1E+999999", "EUR")],
)
def test_an_amount_that_the_currency_cannot_hold_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(MoneyNotRepresentable):
        Money(Decimal(amount), currency)


@pytest.mark.parametrize(
    ("amount", "rounded"), [("0.125", "0.12"), ("0.135", "0.14"), ("-0.125", "-0.12"), ("2.675", "2.68"), ("1", "1.00")]
)
def test_a_half_goes_to_the_even_neighbour(amount: str, rounded: str) -> None:
    assert str(Money.round_half_even(Decimal(amount), "EUR")) == rounded


def test_a_total_too_large_to_store_is_refused() -> None:
    largest = Money(LIMIT - Decimal("0.01"), "EUR")

    with pytest.raises(MoneyNotRepresentable):
        _ = largest + Money(Decimal("0.01"), "EUR")


def test_currencies_do_not_mix() -> None:
    with pytest.raises(CurrencyMismatch):
        _ = Money(Decimal(1), "EUR") + Money(Decimal(1), "USD")


def test_zero_has_no_sign() -> None:
    assert str(Money(Decimal("-0.00"), "EUR")) == "0.00"


@given(AMOUNTS, CURRENCIES)
def test_rounding_agrees_with_exact_arithmetic(amount: Decimal, currency: str) -> None:
    unit = Fraction(1, 10 ** minor_unit_digits(currency))
    expected = round(Fraction(amount) / unit) * unit  # Python rounds halves of fractions to even

    assert Fraction(Money.round_half_even(amount, currency).amount) == expected


@given(AMOUNTS, CURRENCIES)
def test_rounding_is_idempotent(amount: Decimal, currency: str) -> None:
    money = Money.round_half_even(amount, currency)

    assert Money.round_half_even(money.amount, currency) == money


@given(AMOUNTS, CURRENCIES)
def test_text_gives_the_same_money_back(amount: Decimal, currency: str) -> None:
    money = Money.round_half_even(amount, currency)

    assert Money(Decimal(str(money)), currency) == money
    assert "E" not in str(money)


@given(st.lists(st.integers(min_value=0, max_value=10**12), max_size=50))
def test_adding_up_loses_no_minor_unit(cents: list[int]) -> None:
    parts = [Money(Decimal(each).scaleb(-2), "EUR") for each in cents]

    assert Money.total(parts, "EUR").amount.scaleb(2) == sum(cents)


@given(AMOUNTS)
def test_rounding_moves_an_amount_by_half_a_unit_at_most(amount: Decimal) -> None:
    rounded = Money.round_half_even(amount, "EUR").amount

    assert abs(rounded - amount) <= Decimal("0.005")
    assert rounded == amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
