"""Searches the journals of this host and those that other hosts have sent to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

_LINES = "300"
_PATIENCE_SECONDS = 10
_BIGGEST_LINE = 1024 * 1024


class JournalUnreadableError(Exception):
    """journalctl failed or took too long; the message says which."""


async def lines_with(text: str, since: str) -> list[Mapping[str, Any]]:
    """Return the newest lines that contain a text, oldest first.

    Args:
        text: letters, digits and dashes only: it is an identifier, never a pattern.
        since: how far back, as journalctl takes it.

    Raises:
        JournalUnreadableError: the journal cannot be searched.
        ValueError: the text is no identifier.
    """
    if not text.replace("-", "").isalnum() or not text.isascii():
        raise ValueError("expected letters, digits and dashes")
    command = [
        "journalctl", "--merge", "--output=json", "--no-pager", f"--lines={_LINES}", f"--since={since}", f"--grep={text}",
        "--output-fields=MESSAGE,_HOSTNAME,_SYSTEMD_UNIT,PRIORITY",
    ]  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_BIGGEST_LINE,
        )
    except OSError as error:
        raise JournalUnreadableError(str(error)) from error
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            out, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise JournalUnreadableError(f"no answer within {_PATIENCE_SECONDS} s") from None
    # 1: nothing was found.
    if process.returncode not in {0, 1} or (process.returncode == 1 and said.strip()):
        raise JournalUnreadableError(said.decode(errors="replace").strip())
    return [json.loads(line) for line in out.splitlines()]
