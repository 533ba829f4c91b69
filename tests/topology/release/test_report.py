"""A release that fails leaves a page that a person can read without anything else, and a support bundle without secrets."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from playbooks.module_utils.masking import leaks
from tests.support.browser import asked, chromium, complaints
from tests.support.released_host import STATE
from tests.topology.release.conftest import Environment, Run

RELAY = "cpq-oms-relay.service"
SAID = "planted: this relay does not start"
# 78 is not tried again.
NO_START = f"[Service]\nExecStartPre=/bin/sh -c 'echo {SAID}; exit 78'\n"


@pytest.fixture(scope="module")
def both(environment: Environment) -> tuple[Run, Path, Run, Path]:
    """A release whose relay does not start, the one that mends it, and the folders of their reports."""
    before = set(reports(environment))
    with environment.host.altered({RELAY: NO_START}, {}):
        environment.host.run(f"systemctl stop {RELAY}")
        run = environment.release(reports=True)
    [folder] = set(reports(environment)) - before
    environment.make_pending()
    mended = environment.release(reports=True)
    [after] = set(reports(environment)) - before - {folder}
    return run, folder, mended, after


@pytest.fixture(scope="module")
def failed(both: tuple[Run, Path, Run, Path]) -> tuple[Run, Path]:
    """The one that failed."""
    return both[:2]


def reports(environment: Environment) -> list[Path]:
    """The folders of all reports of the environment."""
    return sorted((STATE / environment.host.environment / "releases").glob("*"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    try:
        yield driver
    finally:
        driver.quit()


def test_the_failure_is_said_first_and_where_its_report_is(failed: tuple[Run, Path]) -> None:
    run, folder = failed

    assert run.code != 0
    assert f"{RELAY} did not start" in run.output
    assert SAID in run.output
    assert f"report: {folder}/report.html" in run.output
    assert f"support bundle: {folder}/support-{folder.name}.tar.gz" in run.output
    assert run.output.index("did not start") < run.output.index("support bundle: ")
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "report.json",
        f"support-{folder.name}.tar.gz",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_the_page_is_read_in_a_browser_and_fetches_nothing(
    failed: tuple[Run, Path], browser: webdriver.Chrome, environment: Environment
) -> None:
    _, folder = failed
    browser.get(f"file://{folder}/report.html")

    failure = browser.find_element(By.CSS_SELECTOR, "section.failure").text
    for said in ("relay", environment.host.name, f"{RELAY} did not start", "Remedy", f"support-{folder.name}.tar.gz"):
        assert said in failure, said
    drawn = browser.find_elements(By.CSS_SELECTOR, "main svg")
    assert drawn
    assert all(one.size["width"] > 0 and one.size["height"] > 0 for one in drawn)
    page = browser.find_element(By.CSS_SELECTOR, "main").text
    for part in ("Plan", "Steps in their order", "Pre-checks", "Units", "Entries", "Journals of this time"):
        assert part in page, part
    assert complaints(browser) == []
    assert asked(browser) == {f"file://{folder}/report.html"}


def test_the_report_knows_the_step_the_record_and_the_figures(
    failed: tuple[Run, Path], environment: Environment
) -> None:
    _, folder = failed
    report = json.loads((folder / "report.json").read_text())

    assert (report["result"], report["failure"]["step"]) == ("failed", "relays")
    assert report["failure"]["host"] == environment.host.name
    # It may be seen between two attempts.
    [[said]] = [one["not_running"] for one in report["hosts"] if one["unit"] == "relay"]
    assert said in {f"{RELAY} is failed", f"{RELAY} is activating"}
    assert len(report["bundle_sha256"]) == 64
    assert report["record"]["is_whole"]
    assert report["record"]["entries"][-1]["state"] == "failed"
    assert (
        report["journal_run"]
        == environment.sql(
            "SELECT run_id FROM cpq.release_run WHERE state = 'failed' ORDER BY started_at DESC LIMIT 1"
        )[0]
    )
    assert report["figures"]["unseen"] == ""
    assert [panel for panel in report["figures"]["panels"] if panel["series"]] != []
    assert {check["phase"] for check in report["checks"]} == {"before"}


def test_the_support_bundle_shows_the_fault_and_no_secret(failed: tuple[Run, Path], environment: Environment) -> None:
    _, folder = failed
    host = environment.host
    with tarfile.open(folder / f"support-{folder.name}.tar.gz") as reader:
        streams = {entry.name.partition("/")[2]: reader.extractfile(entry) for entry in reader}
        files = {name: stream.read() for name, stream in streams.items() if stream}

    assert SAID.encode() in files[f"hosts/{host.name}/journal/{RELAY}.log"]
    assert b"exit 78" in files[f"hosts/{host.name}/units/{RELAY}"]
    assert b"APP_ENV=" in files[f"hosts/{host.name}/settings/relay.env"]
    # This host has no packet filter.
    assert f"hosts/{host.name}/nftables.txt" in files
    for name in ("disk.txt", "memory.txt", "status.txt", "packages.txt"):
        assert files[f"hosts/{host.name}/{name}"], name
    assert {"report.json", "plan.txt", "release-record.jsonl", "README.txt"} <= {*files}
    assert [name for name in files if name.startswith("inventory/")] != []
    secrets = {
        path.name: path.read_text() for path in (STATE / host.environment / "secrets").iterdir() if path.is_file()
    }
    assert len(secrets) > 20
    assert [(name, leaks(content, secrets)) for name, content in files.items() if leaks(content, secrets)] == []


def test_a_release_that_went_well_leaves_a_page_and_no_support_bundle(
    both: tuple[Run, Path, Run, Path], browser: webdriver.Chrome
) -> None:
    _, _, run, folder = both

    assert run.code == 0, run.output
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    browser.get(f"file://{folder}/report.html")
    assert browser.find_elements(By.CSS_SELECTOR, "section.failure") == []
    report = json.loads((folder / "report.json").read_text())
    assert (report["result"], report["failure"]) == ("succeeded", None)
    assert {check["phase"] for check in report["checks"]} == {"before", "window", "after"}
    assert [step for step in report["proof"] if not step["passed"]] == []
    assert report["record"]["entries"][-1]["state"] == "succeeded"
    assert "baseline" in report["record"]["evidence"]
    assert all(one["is_seen"] and one["not_running"] == [] for one in report["hosts"])
