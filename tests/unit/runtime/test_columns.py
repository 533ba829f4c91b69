"""Tables as plain text."""

from __future__ import annotations

import pytest

from app.runtime.columns import aligned


def test_columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_blanks() -> None:
    assert aligned([("item", "is", "says"), ("api", "green", ""), ("x", "red", "why")]) == [
        "item  is     says",
        "api   green",
        "x     red    why",
    ]


def test_a_line_that_lacks_a_cell_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        aligned([("a", "b"), ("c",)])
