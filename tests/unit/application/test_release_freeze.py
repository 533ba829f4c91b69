"""A release while releases are frozen."""

from __future__ import annotations

from datetime import UTC, datetime

from app.application.release_freeze import Freeze, refusal

SINCE = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)
FREEZE = Freeze("end of quarter, OPS-811", "ana", SINCE, datetime(2026, 12, 1, 6, 0, tzinfo=UTC))


def test_a_release_is_refused_with_who_why_and_until_when() -> None:
    said = refusal(FREEZE, "")

    assert said.startswith(
        "releases are frozen: end of quarter, OPS-811 (ana, since 2026-11-27 18:00 UTC, until 2026-12-01 06:00 UTC); "
    )
    assert "release_despite_freeze" in said


def test_one_without_end_says_that_somebody_has_to_end_it() -> None:
    assert "until somebody ends it" in refusal(Freeze("incident", "ben", SINCE, None), "")


def test_a_word_lets_it_pass_and_a_blank_is_none() -> None:
    assert refusal(FREEZE, "the mend of the incident itself") == ""
    assert refusal(FREEZE, "  ") != ""
    assert refusal(None, "") == ""
