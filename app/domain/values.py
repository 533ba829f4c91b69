"""Values of the business: identifiers, exact money, the actor of a change.

Money is always a whole number of its currency's minor unit. Whatever has more decimals is a bare `Decimal` inside
pricing and becomes money in one place, `Money.round_half_even`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, localcontext
from typing import NewType
from uuid import UUID

from app.domain.errors import CurrencyMismatch, MoneyNotRepresentable

TenantId = NewType("TenantId", str)
CustomerId = NewType("CustomerId", str)
OfferingId = NewType("OfferingId", str)
QuoteId = NewType("QuoteId", UUID)
OrderId = NewType("OrderId", UUID)

EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])
"""Arithmetic that raises instead of losing a digit."""

LIMIT = Decimal(10) ** 15
"""Amounts stay below this in either direction: every layer from the database to JavaScript clients holds them exactly."""

_MINOR_UNIT_DIGITS = dict.fromkeys(
    (
        "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
        "XPF",
    ),
    0,
) | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)  # fmt: skip
_DEFAULT_MINOR_UNIT_DIGITS = 2
_MINOR_UNITS = {digits: Decimal(1).scaleb(-digits) for digits in (0, 2, 3)}
_CURRENCY_CODE_LENGTH = 3


def minor_unit_digits(currency: str) -> int:
    """Decimals of the currency's minor unit by ISO 4217: 0 for JPY, 3 for KWD, 2 for most."""
    if len(currency) != _CURRENCY_CODE_LENGTH or not currency.isascii() or not currency.isupper():
        raise MoneyNotRepresentable("A currency is a three-letter upper-case ISO 4217 code.")
    return _MINOR_UNIT_DIGITS.get(currency, _DEFAULT_MINOR_UNIT_DIGITS)


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount of one currency, held with exactly the currency's decimals.

    Raises:
        MoneyNotRepresentable: the amount is not finite, too large, or finer than the minor unit.
    """

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        digits = minor_unit_digits(self.currency)
        if not self.amount.is_finite() or abs(self.amount) >= LIMIT:
            raise MoneyNotRepresentable(f"The amount in {self.currency} is outside the range that can be stored.")
        try:
            exact = self.amount.quantize(_MINOR_UNITS[digits], context=EXACT)
        except Inexact:
            raise MoneyNotRepresentable(f"{self.currency} has {digits} decimals.") from None
        object.__setattr__(self, "amount", abs(exact) if exact.is_zero() else exact)

    @classmethod
    def zero(cls, currency: str) -> Money:
        """No money, of a currency."""
        return cls(Decimal(0), currency)

    @classmethod
    def round_half_even(cls, amount: Decimal, currency: str) -> Money:
        """Round to the currency's minor unit; a half goes to the even neighbour, so that halves cancel out over many."""
        if not amount.is_finite() or abs(amount) >= LIMIT:
            raise MoneyNotRepresentable(f"The amount in {currency} is outside the range that can be stored.")
        with localcontext(Context(prec=EXACT.prec, rounding=ROUND_HALF_EVEN)):
            return cls(amount.quantize(_MINOR_UNITS[minor_unit_digits(currency)]), currency)

    @classmethod
    def total(cls, parts: Iterable[Money], currency: str) -> Money:
        """Add up; the total of nothing is zero."""
        amount = Decimal(0)
        for part in parts:
            if part.currency != currency:
                raise CurrencyMismatch(f"{currency} and {part.currency} cannot be added.")
            amount = EXACT.add(amount, part.amount)
        return cls(amount, currency)

    def __add__(self, other: Money) -> Money:
        return Money.total((self, other), self.currency)

    def __str__(self) -> str:
        """The amount alone, as it is written into JSON: `10.00`, never an exponent."""
        return format(self.amount, "f")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, for whom, and in which request: what every audit entry and event needs to say.

    Attributes:
        tenant_id: the tenant from the token; never taken from a body, path or header.
        principal: the token's subject, or a component's name for its own acts.
        request_id: the HTTP request or the job, for finding the log lines of the change.
        traceparent: the W3C trace context, or None.
    """

    tenant_id: TenantId
    principal: str
    request_id: str | None = None
    traceparent: str | None = None
