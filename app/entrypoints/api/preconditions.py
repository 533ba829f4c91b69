"""The request headers that a state change depends on: Idempotency-Key and If-Match."""

from __future__ import annotations

import hashlib
import json
import re

import falcon.asgi
import msgspec

from app.application.idempotency import IdempotentRequest
from app.entrypoints.api.problems import Problem

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"(?P<key>(?:[^"\\]|\\["\\])*)"')
_TAG = re.compile(r'(?P<weak>W/)?"(?P<tag>[^"]*)"')


def idempotent_request(req: falcon.asgi.Request, body: msgspec.Struct) -> IdempotentRequest:
    """Read the Idempotency-Key, as a bare token or a quoted string, and fingerprint the request.

    The fingerprint covers method, path and content, not the spelling of the JSON.

    Raises:
        Problem: 400 without a usable key.
    """
    header = req.get_header("Idempotency-Key")
    if header is None:
        raise Problem(400, "idempotency-key-missing", "This request needs an Idempotency-Key header.")
    quoted = _QUOTED.fullmatch(header)
    key = re.sub(r"\\(.)", r"\1", quoted["key"]) if quoted else header
    if not _KEY.fullmatch(key):
        raise Problem(400, "idempotency-key-malformed", "An Idempotency-Key has 1 to 255 visible ASCII characters.")
    content = json.dumps([req.method, req.path, msgspec.to_builtins(body)], sort_keys=True)
    return IdempotentRequest(key, hashlib.sha256(content.encode()).hexdigest())


def expected_version(req: falcon.asgi.Request) -> int | None:
    """The version that If-Match names, or None without the header or with `*`.

    Raises:
        Problem: 400 when it is no entity tag, 412 when none of its tags can be that of a version.
    """
    header = req.get_header("If-Match")
    if header is None or header.strip() == "*":
        return None
    tags = [_TAG.fullmatch(part.strip()) for part in header.split(",")]
    strong = []
    for tag in tags:
        if tag is None:
            raise Problem(400, "if-match-malformed", 'If-Match must be an entity tag such as "3".')
        if not tag["weak"]:
            strong.append(tag["tag"])
    if len(strong) != 1 or not re.fullmatch(r"[1-9][0-9]{0,17}", strong[0]):
        raise Problem(412, "version-mismatch", "If-Match names no version of this resource.")
    return int(strong[0])


def required_version(req: falcon.asgi.Request) -> int:
    """The version that If-Match names; the header must be there and name one.

    Raises:
        Problem: 428 without it, else as `expected_version`.
    """
    version = expected_version(req)
    if version is None:
        raise Problem(
            428, "if-match-missing", "This request needs an If-Match header with the ETag of what was last read."
        )
    return version
