"""Access tokens: who calls, for which tenant, with which scopes. Anything doubtful about a token makes it invalid.

Keys come from the issuer's JWKS and are kept: with the issuer down, known keys go on working. A key identifier that is
not known makes the set be fetched again, but never more often than every ten seconds, whatever strangers send.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import jwt
import msgspec

from app.domain.values import TenantId
from app.entrypoints.api.problems import Problem
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

ALGORITHMS = ("ES256", "RS256")
REQUIRED_CLAIMS = ("exp", "iat", "aud", "iss", "sub", "tenant")
MAX_LIFETIME = timedelta(hours=24)

_LEEWAY = timedelta(seconds=3)
_REFRESH_PAUSE_S = 10.0
_REFRESH_AFTER_S = 600.0
_FETCH_TIMEOUT_S = 3.0
_MAX_JWKS_BYTES = 256 * 1024
_MAX_TOKEN_LENGTH = 8192
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
_TENANT = re.compile(r"[a-z][a-z0-9-]{1,62}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a valid token says."""

    tenant_id: TenantId
    subject: str
    scopes: frozenset[str]


class SigningKeys:
    """The issuer's public keys by their identifiers."""

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._tried_at: float | None = None
        self._fetched_at = 0.0
        self._lock = asyncio.Lock()

    async def get(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key, fetching the set when it is unknown or the set is old, if a fetch is due; else None.

        Raises:
            Problem: 503 when the issuer has never answered: no token can be judged.
        """
        if key_id not in self._keys or self._clock.monotonic() - self._fetched_at > _REFRESH_AFTER_S:
            await self.refresh()
        if not self._keys:
            raise Problem(503, "issuer-unavailable", "The token cannot be checked now.", headers={"Retry-After": "10"})
        return self._keys.get(key_id)

    async def has_any(self) -> bool:
        """Tell whether any key is known, fetching the set when none is and a fetch is due."""
        if not self._keys:
            await self.refresh()
        return bool(self._keys)

    async def refresh(self) -> None:
        """Fetch the set unless that was tried a moment ago; an unusable answer leaves the known keys as they are."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._tried_at is not None and now - self._tried_at < _REFRESH_PAUSE_S:
                return
            self._tried_at = now
            try:
                keys = await self._fetch()
            except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                _log.warning("signing keys not fetched", url=self._url, error=f"{type(error).__name__}: {error}")
                return
            self._keys = keys
            self._fetched_at = now

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        async with self._client.stream("GET", self._url, timeout=_FETCH_TIMEOUT_S) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_JWKS_BYTES:
                    raise ValueError("the key set is too large")
        document = msgspec.json.decode(bytes(body))
        keys = document.get("keys") if isinstance(document, dict) else None
        usable: dict[str, jwt.PyJWK] = {}
        for key in keys if isinstance(keys, list) else []:
            if isinstance(key, dict) and isinstance(key.get("kid"), str) and key.get("use", "sig") == "sig":
                try:
                    usable[key["kid"]] = jwt.PyJWK(key)
                except jwt.PyJWTError:
                    continue  # a kind of key that is not ours to know; its tokens are refused
        if not usable:
            raise ValueError("the key set has no usable key")
        return usable


class TokenVerifier:
    """Checks bearer tokens of one issuer for one audience."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def is_able(self) -> bool:
        """Tell whether tokens can be judged at all: an issuer that has answered once is not needed again for this."""
        return await self._keys.has_any()

    async def verify(self, token: str) -> Caller:
        """Return who calls.

        Raises:
            Problem: 401 for any defect of the token, always with the same words; 503 when it cannot be judged.
        """
        try:
            key = await self._key_of(token)
            claims = jwt.decode(
                token,
                key=key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": list(REQUIRED_CLAIMS), "strict_aud": True},
            )
            return _caller(claims)
        except (jwt.PyJWTError, ValueError) as error:
            _log.info("token refused", reason=type(error).__name__)
            raise unauthorized() from None

    async def _key_of(self, token: str) -> jwt.PyJWK:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise ValueError("token too long")
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS or "crit" in header:
            raise ValueError("algorithm or critical header not allowed")
        kind = header.get("typ")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
            raise ValueError("not an access token")
        key_id = header.get("kid")
        if not isinstance(key_id, str):
            raise ValueError("no key identifier")  # noqa: TRY004 (one kind of refusal for any token)
        key = await self._keys.get(key_id)
        if key is None or key.algorithm_name not in ALGORITHMS or key.algorithm_name != header["alg"]:
            raise ValueError("unknown key, or of another algorithm")
        return key


def unauthorized() -> Problem:
    """The one answer to every missing or invalid token."""
    return Problem(
        401, "unauthorized", "A valid bearer token is required.", headers={"WWW-Authenticate": 'Bearer realm="cpq-oms"'}
    )


def _caller(claims: dict[str, Any]) -> Caller:
    tenant, subject, scope = claims["tenant"], claims["sub"], claims.get("scope", "")
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise ValueError("tenant")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise ValueError("sub")
    if not isinstance(scope, str):
        raise ValueError("scope")  # noqa: TRY004 (one kind of refusal for any token)
    if claims["exp"] - claims["iat"] > MAX_LIFETIME.total_seconds():
        raise ValueError("lifetime")
    return Caller(TenantId(tenant), subject, frozenset(scope.split()))
