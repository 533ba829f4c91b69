"""Nobody looks without having logged in; guessing is slow; who looked is written down."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.unit.console.conftest import ORDER, Browser

PAGES = ("/", "/alerts", "/orders", f"/orders/{ORDER}", "/processes", "/search?q=1", "/dashboards/api")


@pytest.mark.parametrize("path", PAGES)
def test_without_a_session_every_page_leads_to_the_log_in(browser: Browser, path: str) -> None:
    answer = browser.get(path)

    assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/login", "")


@pytest.mark.parametrize("path", PAGES)
def test_with_one_every_page_is_shown_and_written_down(browser: Browser, path: str) -> None:
    browser.log_in()
    with capture_logs() as logs:
        answer = browser.get(path)

    assert answer.status_code == 200
    [access] = [line for line in logs if line["event"] == "access"]
    assert (access["operator"], access["path"]) == ("ada", path.partition("?")[0])


def test_the_session_is_kept_from_scripts_other_sites_and_plain_connections(browser: Browser) -> None:
    cookie = browser.log_in().cookies["cpq_console"]

    assert cookie.http_only
    assert cookie.secure
    assert cookie.same_site == "Strict"


def test_no_page_runs_scripts_or_loads_from_elsewhere(browser: Browser) -> None:
    browser.log_in()
    answer = browser.get("/")

    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert "<script" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_wrong_password_is_refused_and_the_sixth_attempt_is_not_even_judged(browser: Browser) -> None:
    assert [browser.log_in("wrong").status_code for _ in range(5)] == [401] * 5
    assert browser.log_in().status_code == 429
    assert browser.cookies == {}

    browser.clock.passed += 61
    assert browser.log_in().status_code == 303


def test_a_session_ends_by_log_out_and_by_time(browser: Browser) -> None:
    browser.log_in()
    cookies = dict(browser.cookies)
    browser.client.simulate_post("/logout", cookies=cookies)
    assert browser.get("/").status_code == 303

    browser.log_in()
    browser.clock.passed += 8 * 3600 + 1
    assert browser.get("/").status_code == 303


def test_a_made_up_session_is_none(browser: Browser) -> None:
    browser.cookies["cpq_console"] = "A" * 43

    assert browser.get("/").status_code == 303


def test_a_name_that_could_forge_a_line_is_refused(browser: Browser) -> None:
    assert browser.log_in(operator="ada%0aroot").status_code == 422
