"""One JSON object per line on stderr, for the journal, from our own calls and from libraries alike.

Bind request-scoped fields with `structlog.contextvars.bind_contextvars(tenant=…, request_id=…)`; every line written until
`clear_contextvars()` carries them. The trace is that of the span that is open. Nothing here decides what is worth logging.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from app.runtime.tracing import current_traceparent

HIDDEN = "***"

# A field whose name says secret is hidden whole, whatever its value is.
_SECRET_FIELD = re.compile(r"passw|secret|token|authorization|credential|api_?key|cookie|private_?key", re.IGNORECASE)
# Secrets inside free text: a password in a URL, a bearer token, `password=…` as database drivers print it.
_SECRET_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+@", re.IGNORECASE), rf"\g<head>{HIDDEN}@"),
    (re.compile(r"(?P<head>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\g<head>{HIDDEN}"),
    (
        re.compile(r"(?P<head>\b\w*(?:password|secret|token)\w*\s*[=:]\s*)[^\s,;&)'\"]+", re.IGNORECASE),
        rf"\g<head>{HIDDEN}",
    ),
)
# Libraries that narrate at INFO what we count in metrics.
_TALKATIVE = ("kafka", "httpx", "httpcore", "asyncio", "uvicorn.access")


def configure(level: str, unit: str, release: str, instance: str | None = None, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging to one JSON formatter; call once, first thing in `main`.

    Args:
        level: name of the lowest level written, such as `INFO`.
        unit: the deployable, such as `relay`.
        release: release id of the installation.
        instance: APP_INSTANCE_ID; the unit's name where there is one instance only.
        stream: where lines go; stderr unless a test reads them.

    Raises:
        ValueError: `level` is not a level's name.
    """
    if level.upper() not in logging.getLevelNamesMapping():
        raise ValueError(f"unknown log level {level!r}")
    identity = {"unit": unit, "instance": instance or unit, "release": release}

    def add_identity(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.update(identity)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        add_identity,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    set_level(level)
    logging.captureWarnings(capture=True)


def set_level(level: str) -> None:
    """Write lines from this level on, such as `INFO`, from now on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a module; lines carry `name` as `logger`."""
    return cast("FilteringBoundLogger", structlog.stdlib.get_logger(name))


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace secret fields and secrets inside texts, tracebacks included; the last processor before rendering."""
    return cast("EventDict", _without_secrets(event))


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say which trace, and which span in it, a line belongs to."""
    if traceparent := current_traceparent():
        event["traceparent"] = traceparent
    return event


def _without_secrets(value: object) -> object:
    if isinstance(value, MutableMapping | Mapping):
        return {
            key: HIDDEN if isinstance(key, str) and _SECRET_FIELD.search(key) else _without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    if isinstance(value, str):
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
    return value


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # ts, level and event first, so that a person can read the raw journal; json escapes control characters, so one
    # event can never forge a second line.
    head: dict[str, Any] = {key: event.pop(key) for key in ("ts", "level", "event") if key in event}
    return json.dumps({**head, **event}, default=str)
