"""Pricing: a pure function from offering and quantity to an exact price with a waterfall that explains it.

Every charge passes the same four steps, list → quantity → tierDiscount → rounding, each with its reason, also where a
step changes nothing. Arithmetic before the rounding step is exact; rounding happens once per item and charge, so the
items of a quote add up to its total by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum

from app.domain.catalog import PriceType, ProductOffering, ProductOfferingPrice
from app.domain.errors import OfferingNotPriced
from app.domain.values import EXACT, Money

_PERCENT = Decimal(100)


class Step(StrEnum):
    """The steps of the waterfall, in order."""

    LIST = "list"
    QUANTITY = "quantity"
    TIER_DISCOUNT = "tierDiscount"
    ROUNDING = "rounding"


@dataclass(frozen=True, slots=True)
class PriceStep:
    """One step of the waterfall: what it made of the amount, and why."""

    price_type: PriceType
    step_no: int
    step: Step
    reason: str
    amount_before: Decimal
    amount_after: Decimal


@dataclass(frozen=True, slots=True)
class ItemPrice:
    """What one item costs, once and per period, with the steps that led there."""

    one_time: Money
    recurring: Money
    steps: tuple[PriceStep, ...]


def price_item(offering: ProductOffering, quantity: int, currency: str) -> ItemPrice:
    """Price a quantity of an offering.

    Raises:
        OfferingNotPriced: the offering has no price of any kind in that currency.
        MoneyNotRepresentable: the result is larger than what can be stored.
    """
    totals = dict.fromkeys(PriceType, Money.zero(currency))
    steps: list[PriceStep] = []
    for price_type in PriceType:
        price = offering.price(price_type, currency)
        if price is None:
            continue
        totals[price_type], charge_steps = _waterfall(offering, price, quantity)
        steps.extend(charge_steps)
    if not steps:
        raise OfferingNotPriced(f"Offering {offering.offering_id} has no price in {currency}.")
    return ItemPrice(totals[PriceType.ONE_TIME], totals[PriceType.RECURRING], tuple(steps))


def _waterfall(
    offering: ProductOffering, price: ProductOfferingPrice, quantity: int
) -> tuple[Money, tuple[PriceStep, ...]]:
    tier = offering.tier(price.price_type, quantity)
    with localcontext(EXACT):
        extended = price.unit_amount * quantity
        discounted = extended if tier is None else extended * (_PERCENT - tier.discount_percent) / _PERCENT
    total = Money.round_half_even(discounted, price.currency)
    per = f" per {price.recurring_period}" if price.recurring_period else ""
    tier_reason = (
        f"no quantity tier reached at {quantity}"
        if tier is None
        else f"{tier.reason}: {tier.discount_percent:f} % from {tier.min_quantity}"
    )
    outcomes = (
        (Step.LIST, f"list price of one unit{per}", price.unit_amount),
        (Step.QUANTITY, f"{quantity} units", extended),
        (Step.TIER_DISCOUNT, tier_reason, discounted),
        (Step.ROUNDING, f"half-even to the minor unit of {price.currency}", total.amount),
    )
    before = Decimal(0)
    steps = []
    for step_no, (step, reason, after) in enumerate(outcomes, start=1):
        steps.append(PriceStep(price.price_type, step_no, step, reason, before, after))
        before = after
    return total, tuple(steps)
