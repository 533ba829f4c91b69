"""Rollbacks run on the released environment of the tests, as other releases do."""

from __future__ import annotations

from tests.topology.release.conftest import environment

__all__ = ["environment"]
