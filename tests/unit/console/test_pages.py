"""What pages say, also when what they ask is away, and that nothing found can become markup."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from app.adapters.http.monitoring import Series
from app.entrypoints.console.charts import chart
from app.entrypoints.console.dashboards import Panel, load_dashboards
from tests.unit.console.conftest import NOON, ORDER, Browser, Known

ROOT = Path(__file__).parents[3]
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_topology_names_each_unit_with_state_and_release(browser: Browser, known: Known) -> None:
    about = {"host": "api-1", "unit": "api", "tier": "api", "release": "cpq-oms-2026.11.28-001"}
    known.series = [Series(about, [(0.0, 1.0)])]
    browser.log_in()
    text = browser.get("/").text

    assert "cpq-oms-api" in text
    assert "cpq-oms-2026.11.28-001" in text
    assert '<span class="badge good">up</span>' in text


@pytest.mark.parametrize("path", ["/", "/dashboards/api", "/alerts", "/orders"])
def test_a_page_comes_although_what_it_asks_is_away_and_says_so(browser: Browser, known: Known, path: str) -> None:
    known.is_away = True
    browser.log_in()
    answer = browser.get(path)

    assert answer.status_code == 200
    assert "does not answer" in answer.text


def test_an_orders_timeline_has_what_happened_in_order_and_leads_to_its_trace(browser: Browser, known: Known) -> None:
    known.history_rows = [
        {"at": NOON, "kind": "quote", "what": "quote.create", "detail": f"ada · trace {TRACE}"},
        {"at": NOON + timedelta(seconds=2), "kind": "fallout", "what": "reserve: <i>no</i>", "detail": None},
    ]
    browser.log_in()
    text = browser.get(f"/orders/{ORDER}").text

    assert text.index("quote.create") < text.index("reserve: &lt;i&gt;no&lt;/i&gt;")
    assert "+2.000 s" in text
    assert f'href="/search?q={TRACE}"' in text
    assert "<i>" not in text


def test_an_unknown_order_and_a_wrong_id_are_told_apart(browser: Browser) -> None:
    browser.log_in()

    assert browser.get("/orders/0198c5f0-0000-7000-8000-000000000000").status_code == 404
    assert "That is no order id" in browser.get("/orders?id=x").text
    assert browser.get(f"/orders?id={ORDER}").headers["location"] == f"/orders/{ORDER}"


def test_lines_of_journals_are_shown_as_text(browser: Browser) -> None:
    browser.log_in()
    text = browser.get(f"/search?q={TRACE}").text

    assert browser.searched == [TRACE]
    assert f"&lt;b&gt;{TRACE}&lt;/b&gt;" in text


def test_there_is_a_dashboard_for_each_line_of_the_specification() -> None:
    assert [*load_dashboards()] == [
        "api",
        "postgresql",
        "kafka",
        "redis",
        "camunda",
        "worker",
        "relay",
        "inbox",
        "business",
    ]


def test_each_of_our_figures_that_a_panel_asks_for_is_shown_by_somebody() -> None:
    asked = {
        re.sub("_bucket$", "", name)
        for dashboard in load_dashboards().values()
        for panel in dashboard.panels
        for name in re.findall(r"\bcpq_\w+(?=[{\[) ]|$)", panel.query)
    }
    sources = [*(ROOT / "app").rglob("*.py"), ROOT / "roles/exporters/README.md"]
    written = set(re.findall(r"\bcpq_\w+", "".join(path.read_text() for path in sources)))

    assert asked - written == set()


def test_a_chart_has_a_line_for_each_series_a_gap_where_there_is_one_and_words_for_the_rest() -> None:
    panel = Panel(title="Requests", unit="per second", query="x", legend="{status}")
    found = [
        Series({"status": "200"}, [(0.0, 1.0), (15.0, 2.0), (60.0, 3.0)]),
        Series({"status": '"><script>'}, [(0.0, 0.0), (15.0, float("nan"))]),
    ]
    drawn = chart(panel, found, 0.0, 60.0)

    assert drawn.count("<path") == 2
    assert drawn.count("M") - drawn.count("M0") >= 2
    assert 'aria-label="Requests: 200 3/s; ' in drawn
    assert "<script>" not in drawn


def test_without_figures_a_chart_says_so() -> None:
    assert "No figures for this time." in chart(Panel(title="x", unit="share", query="x"), [], 0.0, 60.0)
