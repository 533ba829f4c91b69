"""Chromium without a screen, as tests open it on pages of our own."""

from __future__ import annotations

import json
from pathlib import Path

from selenium import webdriver

PAGE_SECONDS = 20


def chromium(profile: Path) -> webdriver.Chrome:
    """Start it; whoever asked for it ends it.

    Args:
        profile: a folder for the browser's own files.
    """
    options = webdriver.ChromeOptions()
    # The tests run as root, for whom Chromium has no sandbox; it opens nothing but our own pages.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.binary_location = "/usr/bin/chromium"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(PAGE_SECONDS)
    return driver


def complaints(driver: webdriver.Chrome) -> list[str]:
    """What it complained of since it was last asked."""
    return [f"{line['level']} {line['message']}" for line in driver.get_log("browser")]  # type: ignore[no-untyped-call]


def asked(driver: webdriver.Chrome) -> set[str]:
    """Addresses that it asked for since it was last asked; its own empty page is none."""
    events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]  # type: ignore[no-untyped-call]
    addresses = {
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    }
    return {address for address in addresses if not address.startswith(("chrome:", "data:"))}
