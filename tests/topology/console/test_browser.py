"""The console in a real browser: every page is reached by its links and drawn without an error, and nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from app.entrypoints.console.dashboards import load_dashboards
from tests.support.browser import PAGE_SECONDS, asked, chromium, complaints
from tests.support.released_host import ReleasedHost

DASHBOARDS = list(load_dashboards())


class Browser:
    """Chromium on the pages of one console.

    Args:
        host: where the console is.
        profile: a folder for the browser's own files.
    """

    def __init__(self, host: ReleasedHost, profile: Path) -> None:
        self.address = f"http://{host.address}:8443"
        self.driver = chromium(profile)

    def log_in(self, password: str) -> None:
        """Log in as a person does."""
        self.driver.get(self.address)
        self.driver.find_element(By.NAME, "operator").send_keys("tests")
        self.driver.find_element(By.NAME, "password").send_keys(password)
        self.driver.find_element(By.CSS_SELECTOR, "form button").click()
        WebDriverWait(self.driver, PAGE_SECONDS).until(lambda driver: urlsplit(driver.current_url).path == "/")

    def follow(self, path: str) -> None:
        """Click the link of the page to another one."""
        link = self.driver.find_element(By.CSS_SELECTOR, f'a[href="{path}"]')
        self.driver.execute_script("arguments[0].click()", link)  # wherever it is scrolled to
        WebDriverWait(self.driver, PAGE_SECONDS).until(lambda driver: urlsplit(driver.current_url).path == path)

    def text(self, selector: str = "main") -> str:
        """What is read in a part of the page."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def said(self) -> list[str]:
        """What the browser complained of since it was last asked."""
        return complaints(self.driver)

    def asked(self) -> set[str]:
        """Hosts and ports that were asked since it was last asked."""
        return {urlsplit(address).netloc for address in asked(self.driver)}


@pytest.fixture(scope="module")
def browser(host: ReleasedHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(host, tmp_path_factory.mktemp("chromium"))
    try:
        opened.log_in(host.secret("console_password"))
        yield opened
    finally:
        opened.driver.quit()


@pytest.fixture(autouse=True)
def _nothing_wrong_and_nothing_from_elsewhere(browser: Browser) -> Iterator[None]:
    yield
    assert browser.said() == []
    assert browser.asked() == {urlsplit(browser.address).netloc}


def test_the_topology_shows_the_host_and_its_units(browser: Browser, host: ReleasedHost) -> None:
    browser.driver.get(browser.address)

    page = browser.text()
    assert host.name in page
    for unit in ("api", "relay", "worker@fulfillment", "consumer@order-projection", "console"):
        assert unit in page, unit
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".notice") == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_reached_and_its_plots_are_drawn(browser: Browser, name: str) -> None:
    browser.follow(f"/dashboards/{name}")

    plots = browser.driver.find_elements(By.CSS_SELECTOR, "main svg")
    assert plots
    # Drawn on the screen, and at least one of them with a line of figures.
    assert all(plot.size["width"] > 0 and plot.size["height"] > 0 for plot in plots)
    assert [line for plot in plots for line in plot.find_elements(By.CSS_SELECTOR, "path, polyline")]


@pytest.mark.parametrize(
    ("path", "words"), [("/processes", "order-fulfillment"), ("/alerts", "Alert"), ("/orders", "Order")]
)
def test_a_page_is_reached_and_shows_what_it_is_for(browser: Browser, path: str, words: str) -> None:
    browser.follow(path)

    assert words.lower() in browser.text().lower()


def test_an_orders_timeline_shows_what_became_of_it(browser: Browser, order: str) -> None:
    browser.follow("/orders")
    browser.follow(f"/orders/{order}")

    page = browser.text()
    for word in ("completed", "order-fulfillment", "OrderCompleted"):
        assert word in page, word


def test_a_search_finds_the_lines_that_name_an_order(browser: Browser, order: str) -> None:
    browser.follow("/search")
    browser.driver.find_element(By.NAME, "q").send_keys(order)
    browser.driver.find_element(By.CSS_SELECTOR, "main form button").click()
    WebDriverWait(browser.driver, PAGE_SECONDS).until(lambda driver: order in driver.current_url)

    assert "cpq-oms-api" in browser.text()


def test_the_page_fits_a_narrow_screen(browser: Browser) -> None:
    browser.driver.set_window_size(420, 900)
    browser.driver.get(browser.address)
    try:
        wide = browser.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"the page is {wide} px wider than the screen"
    finally:
        browser.driver.set_window_size(1280, 1024)
