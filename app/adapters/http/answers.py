"""What is read of others' answers: whatever they hold, reading them raises nothing, and the database can keep the text."""

from __future__ import annotations

from typing import Any

import httpx


def json_of(response: httpx.Response) -> Any:
    """The document of an answer; None where it is none, or one so deep that no reader gets to its bottom."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def plain(text: str) -> str:
    """Somebody else's text without what PostgreSQL refuses: NUL characters, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
