"""Strict JSON: what two parsers could read in two ways is refused, and so is everything a command does not ask for."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import falcon.asgi
import msgspec

from app.entrypoints.api.problems import Fault, Problem

MAX_BODY_BYTES = 64 * 1024

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"(?:unknown|missing required) field `(?P<field>[^`]*)`")

T = TypeVar("T", bound=msgspec.Struct)


async def read(req: falcon.asgi.Request, kind: type[T]) -> T:
    """Read the request body as one JSON document of the given shape; an empty body counts as `{}`.

    Raises:
        Problem: 413 too large, 415 not JSON by its type, 400 not strict JSON, 422 not of that shape.
    """
    body = await _body(req)
    if body and (req.content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "unsupported-media-type", "The body must be application/json.")
    document = _parse(body) if body else {}
    try:
        return msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as error:
        fault = _fault(str(error))
        raise Problem(422, "invalid-request", "The body does not have the documented shape.", faults=(fault,)) from None


async def _body(req: falcon.asgi.Request) -> bytes:
    too_large = Problem(
        413, "content-too-large", f"The body may have {MAX_BODY_BYTES} bytes.", headers={"Connection": "close"}
    )
    if (req.content_length or 0) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        chunk = await req.stream.read(MAX_BODY_BYTES + 1 - len(body))
        if not chunk:
            return bytes(body)
        body += chunk
    raise too_large


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise Problem(400, "malformed-json", "The body is nested too deeply.") from None
    except ValueError as error:  # also UnicodeDecodeError, JSONDecodeError, integers of thousands of digits
        detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Problem(400, "malformed-json", f"The body is not strict UTF-8 JSON: {detail[:200]}.") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an object has the same key twice")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _fault(message: str) -> Fault:
    """Turn msgspec's message, `what - at $.items[0].quantity`, into a JSON pointer and what is wrong there."""
    match = _AT.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    pointer = "".join(f"/{_escaped(name or index)}" for name, index in _STEP.findall(path))
    field = _FIELD.search(what)
    if field:
        pointer += f"/{_escaped(field['field'])}"
        what = "unknown or read-only field" if "unknown" in what else "required field is missing"
    return Fault(pointer, what)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
