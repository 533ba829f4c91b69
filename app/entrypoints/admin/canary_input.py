"""What the commands of a canary are given: a cohort, a moment, where servers show their figures, and what was found before a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.adapters.postgres.release_journal import ReleaseJournal
from app.application.canary import prices
from app.application.canary.judgement import Compared, Unmeasured
from app.application.canary.prices import PriceComparison, Repriced
from app.application.release_checks import Target
from app.domain.canary import Cohort
from app.entrypoints.admin.wiring import InputError, Session
from app.runtime.clock import SystemClock

STEP = "api-canary"
"""The step of a release that brings the canary's hosts to it, as the journal and app/contracts/release_steps.yml name it."""


class Servers(BaseModel):
    """Who serves the canary, as the inventory says.

    Attributes:
        targets: where instances show their figures.
        canary_hosts: of the API, those that the edge sends the canary's requests to; none where all are served alike.
        observation_seconds: how long they are observed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: list[Target]
    canary_hosts: frozenset[str]
    observation_seconds: Annotated[float, Field(gt=0)]


class Found(BaseModel):
    """What was found before a verdict, beside the environment's own quotes and orders.

    Attributes:
        servers: `measured` of `release canary observe`; empty where nobody observed.
        former_prices: data of `release canary reprice` of the former release,
        prices: and of this one; None where it could not say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: Mapping[str, Compared | Unmeasured] = {}
    former_prices: Repriced | None = None
    prices: Repriced | None = None


def cohort_of(text: str) -> Cohort:
    """Read a cohort.

    Raises:
        InputError: it is none, or one that quotes and orders do not know.
    """
    try:
        return Cohort.parse(text)
    except ValueError as error:
        raise InputError(f"--cohort: {error}") from error


def moment(since: datetime) -> datetime:
    """A moment that is over, in UTC where it names no other zone.

    Raises:
        InputError: it is still to come.
    """
    given = since.replace(tzinfo=since.tzinfo or UTC)
    if given >= SystemClock().now():
        raise InputError(f"--since {given.isoformat()} is not over")
    return given


async def begun(session: Session) -> datetime:
    """When hosts of the canary were last brought to the release that the command belongs to, to the second before.

    Raises:
        InputError: no release has brought one there.
    """
    release_id = session.release.release_id
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        entries = [entry.content for entry in await journal.record()] if await journal.exists() else []
    brought = [
        datetime.fromisoformat(entry["recordedAt"])
        for entry in entries
        if (entry["releaseId"], entry["step"], entry["state"]) == (release_id, STEP, "succeeded")
    ]
    if not brought:
        raise InputError(
            f"--since: no release has brought hosts of a canary to {release_id}: say from when on it was one"
        )
    return max(brought).replace(microsecond=0)


def price_comparison(cohort: Cohort, found: Found) -> PriceComparison | None:
    """Compare what two releases charge; None where one of them did not say.

    Raises:
        InputError: it is of other quotes.
    """
    if found.former_prices is None or found.prices is None:
        return None
    try:
        return prices.compare(cohort, found.former_prices, found.prices)
    except ValueError as error:
        raise InputError(f"prices cannot be compared: {error}") from error
