"""How consumers meet the driver's errors: what passes, and what is wrong with one event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from app.adapters.postgres.pool import PASSING_ERRORS, first_line
from app.messaging.retry import Poison, Unavailable

_DEPENDENCY = "postgresql"


@contextmanager
def translated_errors() -> Iterator[None]:
    """What passes is `Unavailable`; what the database refuses about the data is `Poison`; the rest is a defect."""
    try:
        yield
    except PASSING_ERRORS as error:
        raise Unavailable(_DEPENDENCY, first_line(error)) from error
    # Row-level security answers InsufficientPrivilege when an order of another tenant has the same id.
    except (psycopg.DataError, psycopg.IntegrityError, errors.InsufficientPrivilege) as error:
        name = type(error).__name__
        raise Poison(f"{name}: {first_line(error)}", f"sqlstate-{error.sqlstate or name}") from error
