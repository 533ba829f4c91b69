"""What the commands of a canary are given: a cohort, a moment, where servers show their figures, and files of prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.application.canary import prices
from app.application.canary.prices import PriceComparison
from app.application.release_checks import Target
from app.domain.canary import Cohort
from app.entrypoints.admin.wiring import InputError
from app.runtime.clock import SystemClock


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


def price_comparison(cohort: Cohort, former: Path | None, latter: Path | None) -> PriceComparison | None:
    """Compare two files of prices; None where none were given.

    Raises:
        InputError: one was given without the other, cannot be read, or is of other quotes.
    """
    if former is None and latter is None:
        return None
    if former is None or latter is None:
        raise InputError("--former-prices and --prices belong together: expected both files")
    try:
        before, after = (
            prices.read(json.loads(path.read_text(encoding="utf-8")), path.name) for path in (former, latter)
        )
        return prices.compare(cohort, before, after)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"prices cannot be compared: {error}") from error
