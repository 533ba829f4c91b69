"""Who may look: one log-in for operators, sessions that end, and few attempts for whoever guesses."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from typing import Any

from app.runtime.clock import Clock

COOKIE = "cpq_console"
_LIFE_SECONDS = 8 * 3600
_ATTEMPTS, _WINDOW_SECONDS = 5, 60.0
_MOST_SESSIONS = 200
_MOST_ADDRESSES = 2000
# About 50 ms and 16 MiB on these hosts: a password is guessed slowly even by somebody who gets around the limit.
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


class TooManyAttemptsError(Exception):
    """This address has tried too often; it may again in a minute."""


class Sessions:
    """Sessions live in this process: a restart ends them all.

    Args:
        password: of the operators.
        clock: monotonic time.
    """

    def __init__(self, password: str, clock: Clock) -> None:
        self._clock = clock
        self._salt = secrets.token_bytes(16)
        self._expected = self._hashed(password)
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def _hashed(self, password: str) -> bytes:
        return hashlib.scrypt(password.encode(), salt=self._salt, n=_SCRYPT["n"], r=_SCRYPT["r"], p=_SCRYPT["p"])

    def log_in(self, operator: str, password: str, address: str) -> str | None:
        """Return the secret of a new session, or None where the password is wrong. Takes its time: call it in a thread.

        Raises:
            TooManyAttemptsError: the address has used up its attempts.
        """
        now = self._clock.monotonic()
        failures = self._failures.setdefault(address, deque())
        while failures and now - failures[0] > _WINDOW_SECONDS:
            failures.popleft()
        if len(failures) >= _ATTEMPTS:
            raise TooManyAttemptsError
        # Counted before it is judged: attempts at the same moment cannot outrun the limit.
        failures.append(now)
        if not hmac.compare_digest(self._hashed(password), self._expected):
            self._bound(self._failures, _MOST_ADDRESSES)
            return None
        self._failures.pop(address, None)
        session = secrets.token_urlsafe(32)
        self._sessions[self._key(session)] = (operator, now + _LIFE_SECONDS)
        self._bound(self._sessions, _MOST_SESSIONS)
        return session

    def operator(self, session: str) -> str | None:
        """Return who the session belongs to, or None."""
        found = self._sessions.get(self._key(session))
        if found is None or self._clock.monotonic() > found[1]:
            return None
        return found[0]

    def log_out(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(self._key(session), None)

    @staticmethod
    def _key(session: str) -> str:
        # Looked up by its hash: how long that takes says nothing about the secret.
        return hashlib.sha256(session.encode(errors="replace")).hexdigest()

    @staticmethod
    def _bound(kept: OrderedDict[str, Any], most: int) -> None:
        while len(kept) > most:
            kept.popitem(last=False)
