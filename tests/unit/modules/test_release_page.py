"""What a release's report says: every part of it, from what its tasks told, as one page that needs nothing else and in which nothing is markup."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from app.application.release_record import NOTHING, Act, Place, sealed
from app.contracts.loader import DIRECTORY, load_release_steps
from playbooks.filter_plugins.release import release_panels
from playbooks.module_utils.release_account import Account
from playbooks.module_utils.release_page import page, told_of_drift, written

ROOT = DIRECTORY.parents[1]
STEPS: list[dict[str, Any]] = yaml.safe_load((DIRECTORY / "release_steps.yml").read_text())["steps"]
PLAYS = {step.step: step.play for step in load_release_steps().steps}
BEGAN = 1_790_000_000.0
OLD, NEW = "cpq-oms-2026.11.29-265", "cpq-oms-2026.11.29-296"
RUN_ID = "019ad0c2-0000-7000-8000-000000000001"
EMPTY = {"meta", "link", "input", "br", "img"}
PLANTED = "<script>alert('x')</script>\"&"
# Read as times, or as names of what the page itself has.
READ = {"began", "ended", "recordedAt", "unit", "result", "kind", "phase"}


def result(*arguments: str, **given: Any) -> dict[str, Any]:
    """What a command of operators gave."""
    return {
        "arguments": [*arguments],
        "changes": [],
        "changed": False,
        "problems": [],
        "checks": [],
        "data": {},
        **given,
    }


def check(name: str, verdict: str, measured: str) -> dict[str, Any]:
    """A judged measurement."""
    return {
        "name": name,
        "verdict": verdict,
        "measured": measured,
        "limit": "at most 1 %",
        "remedy": "look at the journal",
    }


def entries(*acts: tuple[str, str, Place | None]) -> list[dict[str, Any]]:
    """Entries of the record as the commands tell them."""
    made = [
        Act(UUID(RUN_ID), NEW, "erika", "erika@control:1", step, state, datetime.fromtimestamp(BEGAN, UTC), place, evidence=[1])
        for step, state, place in acts
    ]  # fmt: skip
    return [{"sequence": one.sequence, "body": one.body, "hash": one.hash} for one in sealed(made, NOTHING)]


def account() -> Account:
    """A release up to the activation of the API, on two hosts."""
    found = Account({step["play"]: step for step in STEPS})
    found.play(PLAYS["judge"], BEGAN, only_looks=True)
    found.began(
        {
            "run": "20260921T141320Z",
            "began": BEGAN,
            "folder": "/state/releases",
            "kind": "release",
            "environment": "staging",
            "operator": "erika",
            "control_machine": "control",
            "logs": [{"host": "api-1", "command": "journalctl --since=then"}],
            "console": [{"name": "console", "url": "https://10.0.0.1:8443/"}],
        }
    )
    found.judged({"bundle": f"/dist/{NEW}", "release_id": NEW, "sha256": "ab" * 32})
    found.task_ended("Judge", "localhost", "ok", seconds=1.0)
    found.play(PLAYS["look"], BEGAN + 2, only_looks=True)
    for host in ("api-1", "api-2"):
        found.looked(host, {"installed": {"api": OLD}, "services": {}})
        found.task_ended("Look at the host", host, "ok", seconds=0.5)
    found.play(PLAYS["interfaces"], BEGAN + 5, only_looks=True)
    ground = {"way": "possible", "because": "the former stays installed", "ask": "", "answer": ""}
    plan = {
        "verdict": {"way": "possible", "grounds": [ground]},
        "template": {"release id": NEW, "owner": "erika"},
        "refusals": [],
    }
    found.commanded([result("release", "plan", "--bundle", "x", report="the plan as printed", data=plan)])
    found.task_ended("Plan", "localhost", "ok", seconds=0.5)
    found.play(PLAYS["checks"], BEGAN + 8, only_looks=False)
    found.commanded(
        [
            result("release", "precheck", checks=[check("error-rate", "passed", "0 % of 40 requests")]),
            result("release", "begin", "--release-id", NEW, data={"run_id": RUN_ID, "entries": entries(("release", "begun", None))}),
        ]
    )  # fmt: skip
    found.task_ended("Run the pre-checks", "admin-1", "ok", seconds=2.0)
    found.play(PLAYS["provision"], BEGAN + 11, only_looks=False)
    found.commanded([result("migrate", "expand", changed=True, changes=["0025_expand_release_record"])])
    found.task_ended("Migrate", "admin-1", "changed", seconds=3.0)
    found.play(PLAYS["api"], BEGAN + 15, only_looks=False)
    step = result(
        "release", "step", "api", "succeeded", data={"entries": entries(("api", "succeeded", Place("api-1", OLD, NEW)))}
    )
    found.commanded([step])
    found.task_ended("Bring the unit to its release", "api-1", "changed", seconds=4.0)
    return found


def succeeded() -> dict[str, Any]:
    """The same, brought to a good end."""
    found = account()
    found.play(PLAYS["proof"], BEGAN + 25, only_looks=False)
    found.proven([{"step": "take an order", "passed": True, "seconds": 1.5, "evidence": "order 4711"}])
    found.commanded(
        [
            result("release", "window", checks=[check("window", "passed", "0 of 5 samples bad")]),
            result("release", "postcheck", checks=[check("error-rate", "inconclusive", "no request")]),
            result("release", "show", data={
                "run": RUN_ID,
                "entries": [json.loads(one["body"]) for one in entries(("api", "succeeded", Place("api-1", OLD, NEW)))],
                "evidence": {"smoke": "order 4711 completed"},
            }),
        ]
    )  # fmt: skip
    for host in ("api-1", "api-2"):
        found.looked(host, {"installed": {"api": NEW}, "services": {}})
    panels = release_panels({"api": ["Requests by status"], "relay": ["Events that wait"]})
    found.measured(
        {
            "start": BEGAN - 900,
            "began": BEGAN,
            "end": BEGAN + 30,
            "unseen": "",
            "panels": [
                {
                    **panel,
                    "series": [
                        {
                            "labels": {"status": "200"},
                            "values": [[BEGAN - 60, "2"], [BEGAN - 30, "4"], [BEGAN, "6"], [BEGAN + 15, "NaN"]],
                        }
                    ],
                }
                for panel in panels
            ],
        }
    )
    found.task_ended("Prove", "admin-1", "ok", seconds=5.0)
    return found.document(BEGAN + 30, result="succeeded")


def failed() -> dict[str, Any]:
    """The same, failed at the second host of the API by a check."""
    found = account()
    found.play(PLAYS["api"], BEGAN + 20, only_looks=False)
    bad = {
        "results": [
            result("release", "precheck", checks=[check("error-rate", "failed", "7 %"), check("outbox", "passed", "0")])
        ]
    }
    found.task_ended("Activate it", "api-2", "failed", seconds=1.0, message="error-rate: 7 %", result=bad)
    found.task_ended("End the release", "api-2", "failed", seconds=0.1, message="api-2: api: error-rate: 7 %")
    return found.document(BEGAN + 22, result="failed")


class Reader(HTMLParser):
    """Holds a page to the rules that a browser would forgive, and keeps what it is made of."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"{name} is never closed" for name in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.wrong += [f"{tag} has {name} twice" for name in {*names} if names.count(name) > 1]
        self.tags.append((tag, dict(attrs)))
        if tag in {"p", "h1", "h2", "h3"} and "p" in self.open:
            self.wrong.append(f"{tag} in a paragraph")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1:] == [tag]:
            self.open.pop()
        else:
            self.wrong.append(f"{tag} ends where {self.open[-1:]} is open")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        """What is read on the page."""
        return re.sub(r"\s+", " ", " ".join(self.said))

    def of(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.mark.parametrize("run", [succeeded(), failed()], ids=["succeeded", "failed"])
def test_a_page_is_sound_and_needs_nothing_else(run: dict[str, Any]) -> None:
    text = page(run)
    read = Reader(text)

    assert read.wrong == []
    assert text.startswith("<!doctype html>\n<html lang=")
    identities = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert {attributes["href"] for attributes in read.of("a") if (attributes["href"] or "").startswith("#")} <= {
        f"#{one}" for one in identities
    }
    assert loads(text) == []


def loads(text: str) -> list[str]:
    """What a page would fetch or run."""
    read = Reader(text)
    found = [
        name
        for name, _ in read.tags
        if name in {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    ]
    found += [
        name
        for _, attributes in read.tags
        for name in attributes
        if name in {"src", "srcset", "style"} or name.startswith("on")
    ]
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    return found + re.findall(r"@import|url\s*\(|@font-face", style)


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://cdn.invalid/x.js"></script>',
        '<link rel="stylesheet" href="x.css">',
        '<p onclick="x()"></p>',
        "<style>body { background: url(x.png) }</style>",
        '<img src="x">',
    ],
)
def test_what_would_be_loaded_is_seen(planted: str) -> None:
    assert loads(page(succeeded()).replace("</main>", f"{planted}</main>")) != []


def test_a_release_that_went_well_shows_every_part() -> None:
    run = succeeded()
    text = Reader(page(run)).text

    for said in (
        *(NEW, "ab" * 32, "staging", "erika", "30 s", RUN_ID, "the plan as printed", "the former stays installed"),
        *(
            "0 % of 40 requests",
            "0 of 5 samples bad",
            "order 4711",
            "0025_expand_release_record",
            "mean since it began",
        ),
        *("journalctl --since=then", f"cpq-oms-admin release show {RUN_ID}", "order 4711 completed", "3/s", "6/s"),
    ):
        assert said in text, said
    assert "It failed" not in text
    assert text.count(f"api-1 api {OLD} {NEW} - seen") == 1
    [sealing] = {one["evidenceHash"] for one in run["record"]["entries"]}
    assert sealing in text
    assert {one["aria-label"].partition(":")[0] for one in Reader(page(run)).of("svg") if one["aria-label"]} == {
        "Steps over time",
        "Requests by status",
        "Events that wait",
    }


def test_a_release_that_failed_says_so_first_with_rule_remedy_and_what_runs() -> None:
    run = failed()
    failure = run["failure"]

    assert (failure["step"], failure["host"], failure["task"]) == ("api", "api-2", "Activate it")
    assert [(one["rule"], one["what"]) for one in failure["rules"]] == [("error-rate", "7 % (limit: at most 1 %)")]
    assert failure["remedy"] == "look at the journal"
    text = Reader(page(run)).text
    assert text.index("It failed") < text.index("Overview Release")
    # What steps put on record, and what nobody has looked at since it failed.
    assert {(one["host"], one["after"], one["is_in_between"]) for one in run["hosts"]} == {
        ("api-1", NEW, False),
        ("api-2", OLD, True),
    }
    assert f"api: {NEW} on api-1 api: either release on api-2" in text
    assert "the entries that this run was told of" in text
    assert "No figures of Prometheus: nobody was asked" in text


def test_what_was_seen_after_a_failure_is_said_in_place_of_what_steps_tell() -> None:
    found = account()
    found.play(PLAYS["api"], BEGAN + 20, only_looks=False)
    found.task_ended("Activate it", "api-2", "failed", seconds=1.0, message="it does not start")
    services = {
        "cpq-oms-api.service": {"state": "failed"},
        "cpq-oms-api.socket": {"state": "inactive"},
        "cpq-oms-apix.service": {"state": "failed"},
    }
    found.looked("api-2", {"installed": {"api": NEW}, "services": services})

    run = found.document(BEGAN + 22, result="failed")

    assert f"api: {NEW} (cpq-oms-api.service is failed) on api-2" in Reader(page(run)).text
    assert [one["not_running"] for one in run["hosts"] if one["host"] == "api-1"] == [[]]


def test_a_plan_that_was_refused_names_the_rule() -> None:
    found = Account({step["play"]: step for step in STEPS})
    found.began({"run": "r", "began": BEGAN})
    found.play(PLAYS["interfaces"], BEGAN, only_looks=True)
    refusal = {"rule": "release-path", "what": "generation 1 to 3", "remedy": "release 2 first"}
    found.commanded([result("release", "plan", data={"refusals": [refusal]})])
    found.task_ended("Refuse", "localhost", "failed", seconds=0.1, message="release-path: generation 1 to 3")

    failure = found.document(BEGAN + 1, result="failed")["failure"]

    assert (failure["rules"], failure["remedy"]) == ([refusal], "release 2 first")
    assert not found.may_have_changed_something


def test_entries_of_other_runs_are_not_taken_for_this_one() -> None:
    found = account()
    other = [
        {**one, "body": one["body"].replace(RUN_ID, RUN_ID.replace("1", "2"))}
        for one in entries(("api", "succeeded", Place("api-2", OLD, "other")))
    ]
    found.commanded([result("release", "step", "api", "succeeded", data={"entries": other})])

    run = found.document(BEGAN + 30, result="succeeded")

    assert {one["runId"] for one in run["record"]["entries"]} == {RUN_ID}
    assert [one["after"] for one in run["hosts"] if one["host"] == "api-2"] == [OLD]


@pytest.mark.parametrize("run", [succeeded(), failed()], ids=["succeeded", "failed"])
def test_no_text_of_a_run_is_markup(run: dict[str, Any]) -> None:
    run = planted(copy.deepcopy(run))
    run["drift"] = planted({
        "taken_at": "now",
        "findings": [dict.fromkeys(("host", "plane", "item", "expected", "found", "remedy"), "x")],
        "unseen": [dict.fromkeys(("host", "plane", "reason"), "x")],
    })  # fmt: skip
    run["support"] = planted({"file": "", "problem": "x"})

    text = page(run)

    assert PLANTED not in text
    assert loads(text) == []
    assert Reader(text).wrong == []
    assert Reader(text).text.count("<script>alert('x')</script>\"&") > 60


def planted(value: Any, name: str = "") -> Any:
    """The same with markup in every text."""
    if isinstance(value, dict):
        return {key: planted(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [planted(one, name) for one in value]
    if isinstance(value, str) and name not in READ | {"values"}:
        return value + PLANTED
    return value


def test_page_and_data_are_their_owners_alone_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "state/releases/one"

    path = written(folder, succeeded())
    written(folder, failed())

    assert sorted(one.name for one in folder.iterdir()) == ["report.html", "report.json"]
    assert [oct(one.stat().st_mode & 0o777) for one in (folder, *sorted(folder.iterdir()))] == [
        "0o700",
        "0o600",
        "0o600",
    ]
    assert "It failed" in path.read_text()
    assert json.loads((folder / "report.json").read_text())["result"] == "failed"


def test_drift_that_was_found_since_is_told_to_the_newest_report(tmp_path: Path) -> None:
    for name in ("20260101T000000Z", "20260102T000000Z"):
        written(tmp_path / name, succeeded())
    finding = dict.fromkeys(("host", "plane", "item", "expected", "found", "remedy"), "somebody's hand")
    drift = {"taken_at": "2027-01-01T00:00:00+00:00", "findings": [finding], "unseen": [], "planes": []}

    path = told_of_drift(tmp_path, drift)

    assert path == tmp_path / "20260102T000000Z/report.html"
    assert "somebody's hand" in Reader(path.read_text()).text
    assert "make drift" in (tmp_path / "20260101T000000Z/report.html").read_text()
    # What was seen before a release says nothing of it.
    assert told_of_drift(tmp_path, {**drift, "taken_at": "2025-01-01T00:00:00+00:00"}) is None
    assert told_of_drift(tmp_path / "none", drift) is None


def test_each_panel_of_a_report_is_one_of_the_console() -> None:
    wanted = yaml.safe_load((ROOT / "playbooks/release/vars.yml").read_text())["release_figures"]

    assert {one["title"] for one in release_panels(wanted)} == {title for titles in wanted.values() for title in titles}
    with pytest.raises(ValueError, match=r"api: Temperature: no such panel"):
        release_panels({"api": ["Temperature"]})
