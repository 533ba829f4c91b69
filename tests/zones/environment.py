"""The environment of the zone tests: hosts of every tier, in the numbers of production."""

from __future__ import annotations

from pathlib import Path

from tests.support.scratch_environment import ScratchEnvironment

NAME = "zones"
# It has what production has, and the simulator besides: all tiers of the table.
LIKE = "performance"


def zones_environment(folder: Path) -> ScratchEnvironment:
    """Return it, with its inventory in a folder; nothing is there yet."""
    return ScratchEnvironment(folder, name=NAME, machines="existing", like=LIKE)
