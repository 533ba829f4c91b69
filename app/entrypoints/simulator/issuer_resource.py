"""/issuer: client credentials in, access tokens out (RFC 6749 section 4.4), and the keys that verify them."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence

import falcon
from falcon.asgi import Request, Response

from app.entrypoints.simulator.issuer import LIFETIME, Issuer

_TENANT = re.compile(r"[a-z][a-z0-9-]{1,62}")
_SCOPE = re.compile(r"[a-z]+:[a-z]+( [a-z]+:[a-z]+)*")
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,63}")


class IssuerResource:
    """Token, key set and metadata endpoints.

    The client chooses its subject (client_id), its tenant and its scopes: the issuer stands for a company's identity
    provider in which all of them exist.
    """

    def __init__(self, issuer: Issuer, client_secrets: Sequence[str]) -> None:
        self._issuer = issuer
        self._client_secrets = [accepted.encode() for accepted in client_secrets]

    async def on_post_token(self, req: Request, resp: Response) -> None:
        """Issue an access token."""
        form = await req.get_media(default_when_empty={})
        if not isinstance(form, dict):
            form = {}
        client, secret = _client(req, form)
        if not any(hmac.compare_digest(secret.encode(), accepted) for accepted in self._client_secrets):
            _refuse(resp, falcon.HTTP_401, "invalid_client", "wrong client secret")
            resp.set_header("WWW-Authenticate", "Basic")
            return
        if form.get("grant_type") != "client_credentials":
            _refuse(resp, falcon.HTTP_400, "unsupported_grant_type", "grant_type must be client_credentials")
            return
        tenant, scope = str(form.get("tenant", "")), str(form.get("scope", ""))
        if not _SUBJECT.fullmatch(client) or not _TENANT.fullmatch(tenant):
            _refuse(resp, falcon.HTTP_400, "invalid_request", "client_id and tenant are required")
            return
        if not _SCOPE.fullmatch(scope):
            _refuse(resp, falcon.HTTP_400, "invalid_scope", "scope must be like 'quote:read quote:write'")
            return
        resp.set_header("Cache-Control", "no-store")
        resp.media = {
            "access_token": self._issuer.token(client, tenant, scope),
            "token_type": "Bearer",
            "expires_in": int(LIFETIME.total_seconds()),
            "scope": scope,
        }

    async def on_get_jwks(self, req: Request, resp: Response) -> None:
        """Publish the key set."""
        resp.media = self._issuer.jwks()

    async def on_get_configuration(self, req: Request, resp: Response) -> None:
        """Publish the metadata."""
        resp.media = self._issuer.configuration()


def _client(req: Request, form: dict[str, object]) -> tuple[str, str]:
    """Take the client's name and secret from basic authentication or, without it, from the form."""
    scheme, _, encoded = (req.auth or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return client, secret
    return str(form.get("client_id", "")), str(form.get("client_secret", ""))


def _refuse(resp: Response, status: str, error: str, description: str) -> None:
    resp.status = status
    resp.media = {"error": error, "error_description": description}
