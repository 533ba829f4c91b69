"""Shadow pricing: the same accepted quotes priced again by two releases, compared line by line to the cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from app.domain.canary import Cohort
from app.domain.catalog import ProductOffering
from app.domain.errors import DomainError
from app.domain.quote import Quote, QuoteState
from app.domain.values import Money, OfferingId

TOTAL = 0
"""Stands for the quote's total where lines have their numbers, which begin with 1."""


def _exact(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError("an amount is text, such as 10.00: a number would be rounded")
    try:
        if value is not None and not Decimal(value).is_finite():
            raise ValueError("an amount is finite")
    except InvalidOperation:
        raise ValueError(f"{value!r} is no amount") from None
    return value


Amount = Annotated[Decimal | None, BeforeValidator(_exact)]


class PricedLine(BaseModel):
    """One line of a quote as a release prices it; line 0 is the total.

    Attributes:
        one_time: once, in the quote's currency; None where the release refused to price the quote.
        recurring: per period.
        refused: the code of the refusal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quote_id: UUID
    tenant_id: str
    accepted_at: datetime
    line: int
    offering_id: str | None
    currency: str
    one_time: Amount
    recurring: Amount
    refused: str | None

    @model_validator(mode="after")
    def _priced_or_refused(self) -> PricedLine:
        if (self.refused is None) != (self.one_time is not None) or (self.one_time is None) != (self.recurring is None):
            raise ValueError("a line has both amounts, or neither and a refusal")
        return self

    @property
    def price(self) -> str:
        """What is compared, for people."""
        if self.refused is not None:
            return f"refused ({self.refused})"
        return f"{self.one_time:f} {self.currency} once and {self.recurring:f} {self.currency} per period"

    @property
    def name(self) -> str:
        """Quote and line, for people."""
        return f"quote {self.quote_id} {'total' if self.line == TOTAL else f'line {self.line}'}"


class Repriced(BaseModel):
    """The accepted quotes of a cohort as one release prices them: the data of `release canary reprice`.

    Attributes:
        release: whose code priced.
        cohort: as `Cohort.parse` reads it.
        since: quotes accepted from here on,
        until: and before this moment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str
    cohort: str
    since: datetime
    until: datetime
    lines: tuple[PricedLine, ...]


@dataclass(frozen=True, slots=True)
class PriceComparison:
    """What two releases make of the same lines.

    Attributes:
        canary: the release whose prices are judged.
        control: the release they are held to.
        lines: how many were compared, totals among them.
        differences: one line for people for each that differs, quote and line first.
        alone: lines that only one of them has.
    """

    canary: str
    control: str
    lines: int
    differences: Sequence[str]
    alone: Sequence[str]


def reprice(quote: Quote, offerings: Mapping[OfferingId, ProductOffering]) -> list[PricedLine]:
    """Price an accepted quote as if it were still to be priced, with what its own catalog version offers.

    A refusal is a price too: it is compared with what the other release says.
    """
    draft = replace(quote, state=QuoteState.IN_PROGRESS)
    refused: str | None = None
    try:
        priced, _ = draft.price(offerings, quote.priced_at or quote.created_at)
    except DomainError as error:
        priced, refused = draft, error.code
    except KeyError:
        priced, refused = draft, "offering-not-found"
    about = {
        "quote_id": quote.quote_id,
        "tenant_id": quote.tenant_id,
        "accepted_at": quote.updated_at,
        "currency": quote.currency,
        "refused": refused,
    }
    whole = PricedLine(
        **about, line=TOTAL, offering_id=None, **_amounts(priced.total_one_time, priced.total_recurring, refused)
    )
    return [whole] + [
        PricedLine(
            **about,
            line=item.item_no,
            offering_id=item.offering_id,
            **_amounts(item.total_one_time, item.total_recurring, refused),
        )
        for item in priced.items
    ]


def _amounts(one_time: Money | None, recurring: Money | None, refused: str | None) -> dict[str, str | None]:
    # What a quote that cannot be priced any more had cost is no price of this release.
    given = {"one_time": one_time, "recurring": recurring}
    return {name: None if refused or money is None else str(money) for name, money in given.items()}


def compare(cohort: Cohort, former: Repriced, latter: Repriced) -> PriceComparison:
    """Hold the prices of a release to those of the one before, line by line.

    Lines of quotes that were accepted while the two were priced, one after the other, are in one of them and no difference.

    Raises:
        ValueError: they are not of the cohort, not of the same time, or a line is there twice.
    """
    for repriced in (former, latter):
        if repriced.cohort != str(cohort):
            raise ValueError(f"prices of {repriced.release}: cohort: expected {cohort}, found {repriced.cohort}")
    if former.since != latter.since:
        raise ValueError(
            f"prices of different times: since is {former.since.isoformat()} for {former.release} "
            f"and {latter.since.isoformat()} for {latter.release}"
        )
    until = min(former.until, latter.until)
    before, after = (_by_place(repriced, until) for repriced in (former, latter))
    differences = [
        f"{line.name}: {line.price}, and by {former.release} {before[place].price}"
        for place, line in after.items()
        if place in before and not _same(before[place], line)
    ]
    alone = [(before.get(place) or after[place]).name for place in sorted({*before} ^ {*after}, key=str)]
    return PriceComparison(latter.release, former.release, len({*before} & {*after}), differences, alone)


def _by_place(repriced: Repriced, until: datetime) -> dict[tuple[UUID, int], PricedLine]:
    found: dict[tuple[UUID, int], PricedLine] = {}
    for line in repriced.lines:
        place = (line.quote_id, line.line)
        if place in found:
            raise ValueError(f"prices of {repriced.release}: {line.name} is there twice")
        if line.accepted_at < until:
            found[place] = line
    return found


def _same(one: PricedLine, other: PricedLine) -> bool:
    def cost(line: PricedLine) -> tuple[object, ...]:
        return (line.currency, line.one_time, line.recurring, line.refused)

    return cost(one) == cost(other)
