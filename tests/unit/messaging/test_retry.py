from __future__ import annotations

import pytest

from app.messaging.retry import Backoff


@pytest.mark.parametrize(("attempt", "shortest", "longest"), [(1, 0.5, 1), (2, 1, 2), (5, 8, 16), (60, 15, 30)])
def test_delays_double_up_to_the_maximum_and_half_is_by_chance(attempt: int, shortest: float, longest: float) -> None:
    assert Backoff(1, 30, chance=lambda: 0.0).delay(attempt) == shortest
    assert Backoff(1, 30, chance=lambda: 1.0).delay(attempt) == longest


def test_an_endless_outage_does_not_overflow() -> None:
    assert Backoff(1, 30, chance=lambda: 1.0).delay(1_000_000) == 30


def test_two_that_failed_together_come_back_apart() -> None:
    backoff = Backoff(1, 30)

    assert len({backoff.delay(3) for _ in range(20)}) > 1
