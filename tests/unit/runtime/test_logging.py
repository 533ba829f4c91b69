from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app.runtime.logging import configure, get_logger


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure("INFO", "relay", "cpq-oms-2026.11.22-001", "relay-1", stream)
    structlog.contextvars.clear_contextvars()
    yield stream
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level


def only(stream: io.StringIO) -> dict[str, Any]:
    [line] = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_a_line_says_when_how_bad_what_and_who(lines: io.StringIO) -> None:
    get_logger("app.x").info("ready", shards=16)

    line = only(lines)
    assert list(line)[:3] == ["ts", "level", "event"]
    assert {key: line[key] for key in ("level", "event", "unit", "instance", "release", "logger", "shards")} == {
        "level": "info",
        "event": "ready",
        "unit": "relay",
        "instance": "relay-1",
        "release": "cpq-oms-2026.11.22-001",
        "logger": "app.x",
        "shards": 16,
    }


def test_bound_request_fields_are_on_every_line(lines: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(tenant="acme", request_id="r-1", traceparent="00-a-b-01")

    logging.getLogger("some.library").warning("slow %s", "query")

    line = only(lines)
    assert (line["event"], line["tenant"], line["request_id"], line["traceparent"]) == (
        "slow query",
        "acme",
        "r-1",
        "00-a-b-01",
    )


def test_levels_below_the_configured_one_are_not_written(lines: io.StringIO) -> None:
    get_logger("app.x").debug("detail")
    logging.getLogger("kafka.client").info("chatter")

    assert lines.getvalue() == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"db_password": "canary"},
        {"nested": {"authorization": "canary"}},
        {"listed": [{"api_key": "canary"}]},
        {"url": "postgresql://cpq_api:canary@db:5432/cpq"},
        {"text": "connection failed: password=canary host=db"},
        {"text": "Authorization: Bearer canary1234"},
    ],
)
def test_secrets_are_hidden(lines: io.StringIO, fields: dict[str, Any]) -> None:
    get_logger("app.x").info("event", **fields)

    assert "canary" not in lines.getvalue()
    assert "***" in lines.getvalue()


def test_secrets_in_a_traceback_are_hidden(lines: io.StringIO) -> None:
    try:
        int("redis://api:canary@cache:6379/0")
    except ValueError:
        get_logger("app.x").exception("failed")

    assert "canary" not in lines.getvalue()
    assert "ValueError" in only(lines)["exception"]


def test_an_event_cannot_forge_a_second_line(lines: io.StringIO) -> None:
    get_logger("app.x").info('quote\n{"level": "critical"}\x1b[31m')

    assert only(lines)["level"] == "info"
    assert "\x1b" not in lines.getvalue()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("LOUD", "relay", "r")
