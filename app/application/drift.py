"""Where a plane of an environment is not as declared: both sides are texts by item, so that any two can be compared and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """One item of a plane that is not as declared.

    Attributes:
        plane: its name, as docs/drift.md has it.
        item: what differs, such as `index order_item_by_order`.
        expected, found: its declared and its live state; ABSENT where there is none.
    """

    plane: str
    item: str
    expected: str
    found: str


def differences(
    plane: str,
    declared: Mapping[str, str],
    live: Mapping[str, str],
    is_ours: Callable[[str], bool] = lambda _: True,
) -> list[Difference]:
    """Compare one plane.

    Args:
        plane: its name.
        declared: states by item, as they are to be.
        live: states by item, as they are.
        is_ours: whether an item that is live and not declared differs; others belong to somebody else and are left alone.
    """
    items = [*declared, *(item for item in live if item not in declared and is_ours(item))]
    return [
        Difference(plane, item, declared.get(item, ABSENT), live.get(item, ABSENT))
        for item in sorted(items)
        if declared.get(item) != live.get(item)
    ]
