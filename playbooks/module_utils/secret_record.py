"""Says in a host's journal that a file with a secret was written or removed: where, and as which account the change came, never what."""

from __future__ import annotations

import os
import syslog

IDENTIFIER = "cpq-oms-secrets"


def record(change: str, path: object) -> None:
    """Leave one line that `journalctl -t cpq-oms-secrets` shows.

    Args:
        change: `wrote` or `removed`.
        path: the file.
    """
    account = os.environ.get("SUDO_USER") or "root"
    syslog.openlog(IDENTIFIER, 0, syslog.LOG_AUTHPRIV)
    try:
        syslog.syslog(syslog.LOG_NOTICE, f"{change} {path} as {account}")
    finally:
        syslog.closelog()
