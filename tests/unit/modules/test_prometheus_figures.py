"""Figures of a release come from a Prometheus that answers, and without one the reason comes in their place."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.ansible_modules import ModuleRun, load

PANELS = [
    {"title": "Requests", "unit": "per second", "query": "sum(x)", "legend": "{status}"},
    {"title": "Events", "unit": "count", "query": "bad(", "legend": ""},
]


class Answering(BaseHTTPRequestHandler):
    """Knows one query, and says of any other what Prometheus says of one that it cannot read."""

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        """Answer a range."""
        words = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.asked.append(words)
        knows = words["query"] == ["sum(x)"]
        series = [{"metric": {"status": str(number)}, "values": [[1.0, "2.5"]]} for number in range(20)]
        self.send_response(200 if knows else 400)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"result": series}}).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Answering.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> ModuleRun:
    return ModuleRun(load("prometheus_figures"), capsys, tmp_path)


def test_series_come_with_their_panel_and_no_more_than_a_page_can_show(ask: ModuleRun, address: str) -> None:
    found = ask({"url": address, "panels": PANELS[:1], "began": 2_000_000_000.0, "before_seconds": 600}, check=True)

    figures = found["figures"]
    assert (found["changed"], figures["unseen"]) == (False, "")
    assert (figures["start"], figures["began"]) == (1_999_999_400.0, 2_000_000_000.0)
    [panel] = figures["panels"]
    assert {key: panel[key] for key in PANELS[0]} == PANELS[0]
    assert len(panel["series"]) == 12
    assert panel["series"][0] == {"labels": {"status": "0"}, "values": [[1.0, "2.5"]]}
    assert Answering.asked[0]["start"] == ["1999999400.0"]


@pytest.mark.parametrize(("place", "why"), [("", "Events: HTTPError"), ("nowhere", "Requests: URLError")])
def test_without_an_answer_the_reason_comes_and_nothing_fails(
    ask: ModuleRun, address: str, place: str, why: str
) -> None:
    found = ask({"url": "http://127.0.0.1:1" if place else address, "panels": PANELS, "began": 1.0})

    assert "failed" not in found
    assert found["figures"]["panels"] == []
    assert found["figures"]["unseen"].startswith(why)
