"""Business refusals. Each has a stable code that clients may program against; the text may change, the code may not."""

# ruff: noqa: N818 (a refusal is an answer, not an error)

from __future__ import annotations


class DomainError(Exception):
    """A request that the business rules refuse; nothing was changed.

    Attributes:
        code: stable, kebab-case, never reused for another meaning.
        detail: one sentence for the person who reads the answer; holds no data of other tenants.
    """

    code = "refused"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MoneyNotRepresentable(DomainError):
    """An amount has more decimals than its currency's minor unit, or is outside the range the platform stores."""

    code = "money-not-representable"


class CurrencyMismatch(DomainError):
    """Amounts of different currencies were combined."""

    code = "currency-mismatch"


class NoActiveCatalog(DomainError):
    """The tenant has no published catalog version to quote from."""

    code = "no-active-catalog"


class OfferingNotFound(DomainError):
    """The catalog version has no such offering."""

    code = "offering-not-found"


class OfferingNotSellable(DomainError):
    """The offering exists but is not sold on its own."""

    code = "offering-not-sellable"


class OfferingNotPriced(DomainError):
    """The offering has no price in the quote's currency."""

    code = "offering-not-priced"


class QuoteExpired(DomainError):
    """The quote's validity ended; it can be read but not acted upon."""

    code = "quote-expired"


class QuoteStateConflict(DomainError):
    """The quote's state does not allow the requested step."""

    code = "quote-state-conflict"


class QuoteAlreadyConverted(DomainError):
    """The quote already became an order: a quote is converted once only."""

    code = "quote-already-converted"


class OrderStateConflict(DomainError):
    """The order's state does not allow the requested transition."""

    code = "order-state-conflict"
