"""The kills happen on the released environment of the tests."""

from __future__ import annotations

from tests.topology.release.conftest import environment

__all__ = ["environment"]
