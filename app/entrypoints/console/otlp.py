"""Reads spans from an OTLP ExportTraceServiceRequest (opentelemetry-proto, trace/v1): the fields that are kept, and no others.

A reader of the protobuf wire format is enough for that and needs no generated code: what it does not know is passed over,
as the format wants it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from app.adapters.sqlite.intake_store import Span

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 70
_ERROR = 2
_MOST_ATTRIBUTES, _LONGEST_TEXT = 32, 512

Field = tuple[int, int, Any]


class NotTracesError(ValueError):
    """The body is not what an OTLP exporter sends."""


def spans_in(body: bytes) -> list[Span]:
    """Return the spans of a request.

    Raises:
        NotTracesError: it is none.
    """
    try:
        return [
            _span(span, _attributes(_values(resource, 1)))
            for resource_spans in _values(body, 1)
            for resource in _values(resource_spans, 1) or [b""]
            for scope_spans in _values(resource_spans, 2)
            for span in _values(scope_spans, 2)
        ]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise NotTracesError(f"not an ExportTraceServiceRequest: {error}") from error


def _span(message: bytes, resource: dict[str, Any]) -> Span:
    one: dict[int, Any] = {}
    attributes: list[bytes] = []
    for number, kind, value in _fields(message):
        if number == 9 and kind == _BYTES:  # noqa: PLR2004 - Span.attributes
            attributes.append(value)
        else:
            one[number] = value
    trace, span = one.get(1, b""), one.get(2, b"")
    if not isinstance(trace, bytes) or len(trace) != 16 or not isinstance(span, bytes) or len(span) != 8:  # noqa: PLR2004
        raise NotTracesError("a span without a trace id of 16 and a span id of 8 bytes")
    own = _attributes(attributes)
    started, ended = int(one.get(7, 0)), int(one.get(8, 0))
    status = {number: value for number, _, value in _fields(one.get(15, b""))}
    return Span(
        trace=trace.hex(),
        span=span.hex(),
        parent=one.get(4, b"").hex(),
        name=one.get(5, b"").decode()[:_LONGEST_TEXT],
        unit=str(resource.get("service.instance.id") or resource.get("service.name") or ""),
        started=started,
        nanoseconds=max(0, ended - started),
        failed=status.get(3) == _ERROR,
        order_id=str(own.get("cpq.order_id", "")).lower()[:64],
        attributes=own,
    )


def _attributes(messages: list[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in messages[:_MOST_ATTRIBUTES]:
        one = {number: value for number, _, value in _fields(message)}
        for number, kind, value in _fields(one.get(2, b"")):
            name = one.get(1, b"").decode()[:_LONGEST_TEXT]
            if number == 1 and kind == _BYTES:
                found[name] = value.decode()[:_LONGEST_TEXT]
            elif number == 2:  # noqa: PLR2004 - AnyValue.bool_value
                found[name] = bool(value)
            elif number == 3:  # noqa: PLR2004 - AnyValue.int_value
                found[name] = value - (1 << 64) if value >> 63 else value
            elif number == 4:  # noqa: PLR2004 - AnyValue.double_value
                found[name] = struct.unpack("<d", struct.pack("<Q", value))[0]
    return found


def _values(message: bytes, wanted: int) -> list[bytes]:
    return [value for number, kind, value in _fields(message) if number == wanted and kind == _BYTES]


def _fields(message: bytes) -> Iterator[Field]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, kind, value
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
            yield number, kind, struct.unpack_from("<Q" if size == 8 else "<I", message, place)[0]  # noqa: PLR2004
            place += size
        elif kind == _BYTES:
            size, place = _varint(message, place)
            if place + size > len(message):
                raise NotTracesError("the body ends too early")
            yield number, kind, message[place : place + size]
            place += size
        else:
            raise NotTracesError(f"wire type {kind} is not used by OTLP")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, place
        shift += 7
        if shift >= _LONGEST_VARINT:
            raise NotTracesError("a number without an end")
