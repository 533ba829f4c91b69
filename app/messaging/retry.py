"""When to try again: what is worth a retry, what never will be, and how long to wait between tries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


class Unavailable(Exception):  # noqa: N818 (a condition that passes, not a defect)
    """A dependency cannot be used now; the same attempt may succeed later. Nothing is known to be wrong with the event."""

    def __init__(self, dependency: str, reason: str) -> None:
        super().__init__(f"{dependency}: {reason}")
        self.dependency = dependency
        self.reason = reason


class Poison(Exception):  # noqa: N818 (a property of the event, not of the program)
    """This event cannot be handled as it is.

    Attributes:
        code: what refused it, in a word that holds none of its data.
    """

    def __init__(self, reason: str, code: str = "unreadable") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter, so that those who failed together do not come back together.

    Args:
        initial: seconds before the first retry.
        maximum: no delay is longer.
        chance: gives a number from 0 to 1; a test gives a known one.
    """

    initial: float
    maximum: float
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt 1, 2, 3 …: half of it certain, half by chance."""
        # 2 ** 32 is beyond every maximum; without the limit a long outage would overflow.
        full = min(self.maximum, self.initial * 2.0 ** min(attempt - 1, 32))
        return full / 2 + full / 2 * self.chance()
