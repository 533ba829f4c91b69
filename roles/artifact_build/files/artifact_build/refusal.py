"""The one exception that the build reports as a line instead of a traceback."""

from __future__ import annotations


class RefusedError(Exception):
    """The build stops; the message names what is wrong and the remedy."""
