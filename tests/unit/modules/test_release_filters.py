"""What a release and a rollback derive from facts, from the record of releases and from a bundle's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS
from app.contracts.loader import DIRECTORY
from app.entrypoints.admin.plan_input import read_migrations, read_rollback
from playbooks.filter_plugins.release import (
    release_canary,
    release_colours,
    release_described,
    release_former,
    release_hosts_that_differ,
    release_installed,
    release_left_drained,
    release_waves,
)

ROOT = Path(__file__).resolve().parents[3]
A, B, C = (f"cpq-oms-2026.11.29-10{number}" for number in range(1, 4))


def runs(*told: tuple[str, str]) -> list[dict[str, str]]:
    return [{"release": release_id, "state": state} for release_id, state in told]


@pytest.mark.parametrize(
    ("told", "running", "former"),
    [
        (runs((C, "succeeded"), (B, "succeeded"), (A, "succeeded")), {"api": [C]}, B),
        # One that failed was never proven.
        (runs((C, "succeeded"), (B, "failed"), (A, "succeeded")), {"api": [C]}, A),
        # It was cut short: some hosts have it.
        (runs((C, "failed"), (B, "succeeded")), {"api": [B, C], "worker": [B]}, B),
        # Its pre-checks refused it, and it replaced the operators' commands alone.
        (runs((C, "failed"), (B, "succeeded"), (A, "succeeded")), {"admin": [C], "api": [B]}, A),
        # After a rollback what comes next is what was before, and not the release that was left.
        (runs((B, "succeeded"), (C, "succeeded"), (B, "succeeded"), (A, "succeeded")), {"api": [B]}, A),
        (runs((A, "succeeded")), {"api": [A]}, ""),
        (runs((A, "running")), {"api": [B]}, ""),
        (runs((A, "succeeded")), {"api": ["unknown"]}, ""),
        ([], {"api": [B]}, ""),
    ],
)
def test_the_release_before_is_the_newest_that_succeeded_and_is_earlier(
    told: list[dict[str, str]], running: dict[str, list[str]], former: str
) -> None:
    assert release_former(told, running) == former


def test_a_bundle_says_of_itself_what_a_verdict_needs(tmp_path: Path) -> None:
    shutil.copytree(DIRECTORY, tmp_path / "contracts")
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    (tmp_path / "manifest.json").write_text(json.dumps({"release_id": A, "units": {"api": {}, "admin": {}}}))

    said = release_described(str(tmp_path))

    assert (said["release_id"], said["units"]) == (A, ["admin", "api"])
    assert said["files"].keys() == {*PARTS, *DECLARATIONS}
    assert said["migrations"] == [each.name for each in read_migrations(ROOT / "migrations") or ()]
    document = {"installed": {B: said["files"]}, "former": json.loads(json.dumps(said))}
    assert read_rollback(document, "erika").former.release.release_id == A


def test_a_bundle_from_before_migrations_were_in_it_says_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"release_id": A, "units": {}}))

    assert release_described(str(tmp_path))["migrations"] is None


@pytest.mark.parametrize(
    ("installed", "waves"),
    [
        ({"api-1": {"api": A}, "api-2": {"api": A}}, [1, "25%"]),
        # A host that was added goes with those that serve.
        ({"api-1": {"api": A}, "api-2": {}}, [1, "25%"]),
        # On hosts that serve as something else, nobody waits for this deployable.
        ({"api-1": {"admin": A}, "api-2": {}}, ["100%"]),
        ({"api-1": None, "api-2": None}, ["100%"]),
    ],
)
def test_one_host_goes_first_where_somebody_is_served(
    installed: dict[str, dict[str, str] | None], waves: list[int | str]
) -> None:
    hostvars = {
        host: {} if found is None else {"release_before": {"installed": found}} for host, found in installed.items()
    }

    assert release_waves(list(installed), hostvars, "api") == waves


def test_a_deployable_without_hosts_has_one_wave_of_nobody() -> None:
    assert release_waves([], {}, "callback") == ["100%"]


def test_whom_some_edge_left_out_is_known_and_has_to_be_seen_to() -> None:
    hostvars = {
        "edge-1": {"release_before": {"drained": ["callback-2"]}},
        "edge-2": {"release_before": {"drained": []}},
        "callback-1": {"release_before": {}},
        "callback-2": {},
    }
    groups = {"all": list(hostvars)}

    assert release_left_drained(groups, hostvars) == ["callback-2"]
    assert release_hosts_that_differ(groups, hostvars) == ["callback-2"]


def test_where_what_was_deployed_is_told_by_host_of_the_deployables_groups() -> None:
    groups = {"api": ["one-1", "two-1"], "relay": ["one-1"], "all": ["one-1", "two-1", "db-1"]}
    hostvars = {
        # What lies there of a tier that the host has left is nothing that was deployed.
        "one-1": {"after": {"installed": {"api": B, "relay": B, "worker": A}}},
        "two-1": {"after": {"installed": {}}},
        "db-1": {},
    }

    assert release_installed(groups, hostvars, "after", ["api", "relay", "simulator"]) == {
        "one-1": {"api": B, "relay": B},
        "two-1": {"api": ""},
    }


DUE: dict[str, Any] = {"app_release_comparison": {"due": ["api"]}}
SERVES: dict[str, Any] = {"release_before": {"installed": {"api": A}}}


@pytest.mark.parametrize(
    ("cohort", "declared", "variables", "canary"),
    [
        ("percent:5", ["api-2"], {"api-1": SERVES | DUE, "api-2": SERVES | DUE}, ["api-2"]),
        # It has met it already, and the others have not: it is to be judged, or judged again.
        ("percent:5", ["api-2"], {"api-1": SERVES | DUE, "api-2": SERVES}, ["api-2"]),
        # Everybody has it.
        ("percent:5", ["api-2"], {"api-1": SERVES, "api-2": SERVES | DUE}, []),
        ("", ["api-2"], {"api-1": SERVES | DUE, "api-2": SERVES | DUE}, []),
        ("percent:5", [], {"api-1": SERVES | DUE, "api-2": SERVES | DUE}, []),
        # Nobody would be left to hold it to.
        ("percent:5", ["api-1", "api-2"], {"api-1": SERVES | DUE, "api-2": SERVES | DUE}, []),
        ("percent:5", ["api-2"], {"api-1": DUE, "api-2": SERVES | DUE}, []),
        ("percent:5", ["api-2"], {"api-1": {"release_before": {}} | DUE, "api-2": DUE}, []),
    ],
)
def test_a_release_has_a_canary_where_others_serve_and_have_it_still_to_come(
    cohort: str, declared: list[str], variables: dict[str, Any], canary: list[str]
) -> None:
    groups = {"all": ["api-1", "api-2"], "api": ["api-1", "api-2"]}

    assert release_canary(groups, variables, cohort, declared) == {"hosts": canary, "former": A if canary else ""}


HOSTS_OF_COLOURS = ("api-1", "api-2", "api-3")


def in_colours(serving: str, due: list[str], colours: tuple[str, ...] = ("blue", "blue", "green")) -> dict[str, Any]:
    hostvars: dict[str, Any] = {
        name: {"cpq_colour": colour, **(DUE if name in due else {})}
        for name, colour in zip(HOSTS_OF_COLOURS, colours, strict=True)
    }
    hostvars |= {edge: {"release_before": {"serving": serving}} for edge in ("edge-1", "edge-2")}
    groups = {"all": [*HOSTS_OF_COLOURS, "edge-1", "edge-2"], "api": [*HOSTS_OF_COLOURS], "edge": ["edge-1", "edge-2"]}
    return release_colours(groups, hostvars)


@pytest.mark.parametrize(
    ("serving", "due", "to", "standby", "former"),
    [
        ("blue", ["api-1", "api-2", "api-3"], "green", ["api-3"], ["api-1", "api-2"]),
        ("green", ["api-1", "api-2", "api-3"], "blue", ["api-1", "api-2"], ["api-3"]),
        # Those that stand by had it when the release was cut short.
        ("blue", ["api-1"], "green", ["api-3"], ["api-1", "api-2"]),
        # It was cut short after the switch, or nothing is new.
        ("green", ["api-1", "api-2"], "", [], ["api-1", "api-2"]),
        ("blue", [], "", [], ["api-3"]),
        # Edges know of no colours.
        ("", ["api-1", "api-3"], "", [], []),
    ],
)
def test_the_colour_that_serves_nobody_comes_first_and_gets_the_requests_where_the_other_one_lacks_the_release(
    serving: str, due: list[str], to: str, standby: list[str], former: list[str]
) -> None:
    assert in_colours(serving, due) == {"to": to, "standby": standby, "former": former}


@pytest.mark.parametrize("colours", [("none", "none", "none"), ("blue", "blue", "blue"), ("blue", "green", "none")])
def test_hosts_that_are_not_of_two_colours_have_none(colours: tuple[str, ...]) -> None:
    assert in_colours("blue", [*HOSTS_OF_COLOURS], colours) == {"to": "", "standby": [], "former": []}
