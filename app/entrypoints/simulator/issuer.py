"""A token issuer: signs access tokens with a key of its own and publishes the public half as a JWK set."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.runtime.clock import Clock
from app.runtime.ids import Ids

ALGORITHM = "ES256"
KEY_FILE = "issuer-key.pem"
LIFETIME = timedelta(minutes=5)


class Issuer:
    """Access tokens for one audience.

    The key is kept in the state directory, so tokens stay valid over a restart.
    """

    def __init__(self, url: str, audience: str, state_directory: Path, clock: Clock, ids: Ids) -> None:
        """Load the signing key, or make one.

        Raises:
            OSError: the state directory cannot be read or written.
            ValueError: the key file holds no P-256 private key.
        """
        self.url = url
        self._audience = audience
        self._clock = clock
        self._ids = ids
        self._key = _load_or_make_key(state_directory / KEY_FILE)
        self._jwk = _public_jwk(self._key)

    def token(self, subject: str, tenant: str, scope: str) -> str:
        """Sign an access token for a subject of one tenant."""
        now = self._clock.now()
        claims = {
            "iss": self.url,
            "aud": self._audience,
            "sub": subject,
            "tenant": tenant,
            "scope": scope,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": str(self._ids.new()),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._jwk["kid"], "typ": "at+jwt"})

    def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify the tokens."""
        return {"keys": [self._jwk]}

    def configuration(self) -> dict[str, Any]:
        """Return the provider's metadata (OpenID Connect discovery)."""
        return {
            "issuer": self.url,
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks.json",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }


def _load_or_make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"{path} holds no P-256 private key")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    unfinished.rename(path)
    return key


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    jwk = {"crv": "P-256", "kty": "EC", "x": _base64url(numbers.x), "y": _base64url(numbers.y)}
    # RFC 7638: the key's name is the hash of its required members in this very form.
    thumbprint = hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return {**jwk, "alg": ALGORITHM, "use": "sig", "kid": kid}


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()
