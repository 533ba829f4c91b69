from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.catalog import PriceAdjustmentTier, PriceType
from app.domain.errors import OfferingNotPriced
from app.domain.pricing import Step, price_item
from tests.support.builders import fiber


def tier(min_quantity: int, percent: str) -> PriceAdjustmentTier:
    return PriceAdjustmentTier(PriceType.RECURRING, min_quantity, Decimal(percent), "volume")


def test_every_charge_passes_the_four_steps_with_a_reason() -> None:
    price = price_item(fiber(), 10, "EUR")

    recurring = [step for step in price.steps if step.price_type is PriceType.RECURRING]
    assert [(step.step, step.amount_before, step.amount_after) for step in recurring] == [
        (Step.LIST, Decimal(0), Decimal("39.95")),
        (Step.QUANTITY, Decimal("39.95"), Decimal("399.50")),
        (Step.TIER_DISCOUNT, Decimal("399.50"), Decimal("349.5625")),
        (Step.ROUNDING, Decimal("349.5625"), Decimal("349.56")),
    ]
    assert all(step.reason for step in price.steps)
    assert str(price.one_time) == "499.00"
    assert str(price.recurring) == "349.56"


@pytest.mark.parametrize(
    ("quantity", "total"), [(9, "359.55"), (10, "349.56"), (99, "3460.67"), (100, "3196.00"), (101, "3227.96")]
)
def test_the_highest_tier_reached_discounts_the_whole_quantity(quantity: int, total: str) -> None:
    offering = fiber(tiers=(tier(100, "20"), tier(10, "12.5")))

    assert str(price_item(offering, quantity, "EUR").recurring) == total


def test_a_full_discount_costs_nothing() -> None:
    assert str(price_item(fiber(tiers=(tier(1, "100"),)), 7, "EUR").recurring) == "0.00"


def test_an_offering_without_a_price_in_the_currency_is_refused() -> None:
    with pytest.raises(OfferingNotPriced):
        price_item(fiber(), 1, "USD")


@given(
    unit_amount=st.decimals(min_value=0, max_value=10**6, places=6),
    quantity=st.integers(min_value=1, max_value=1_000_000),
    percent=st.decimals(min_value=Decimal("0.0001"), max_value=100, places=4),
)
def test_a_price_is_exact_until_its_one_rounding(unit_amount: Decimal, quantity: int, percent: Decimal) -> None:
    offering = fiber(recurring=str(unit_amount), tiers=(tier(1, str(percent)),))

    price = price_item(offering, quantity, "EUR")

    exact = Fraction(unit_amount) * quantity * (1 - Fraction(percent) / 100)
    assert Fraction(price.steps[-2].amount_after) == exact
    assert Fraction(price.recurring.amount) == Fraction(round(exact * 100), 100)


@given(quantity=st.integers(min_value=1, max_value=1_000_000))
def test_each_step_begins_where_the_last_one_ended(quantity: int) -> None:
    for price_type in PriceType:
        steps = [step for step in price_item(fiber(), quantity, "EUR").steps if step.price_type is price_type]
        assert [step.amount_before for step in steps[1:]] == [step.amount_after for step in steps[:-1]]
