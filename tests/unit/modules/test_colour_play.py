"""The play of a release that has the other colour of the API serve, as it is, on hosts that are only described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.described_plays import ROOT, DescribedPlays, play_of_release

FORMER, LATTER = "cpq-oms-2026.11.29-001", "cpq-oms-2026.11.30-001"
DUE = {"app_release_comparison": {"due": ["api"]}}
WELL: dict[str, Any] = {"changed": False, "results": [{"data": {}, "exit_code": 0}]}
WORSE: dict[str, Any] = {
    "changed": False,
    "failed": True,
    "msg": "window-error-rate: 12 % at api@api-2, at most 1 %",
    "results": [],
}


class Colours:
    """Two edges in front of api-1, which is blue and serves, and api-2, which is green."""

    def __init__(self, folder: Path) -> None:
        self._plays = DescribedPlays(folder)

    def run(
        self,
        play: dict[str, Any],
        answer: dict[str, Any],
        colours: tuple[str, str] = ("blue", "green"),
        **variables: Any,
    ) -> tuple[int, str]:
        """Run a play, with an answer to who watches the servers."""
        api = {
            name: {
                "ansible_host": f"192.0.2.{number}",
                "cpq_colour": colour,
                "release_before": {"installed": {"api": FORMER}},
                **DUE,
            }
            for number, (name, colour) in enumerate(zip(("api-1", "api-2"), colours, strict=True), 1)
        }
        groups: dict[str, dict[str, dict[str, Any]]] = {
            "api": api,
            "admin": {"admin-1": {"__release_is_pending": True}},
            "edge": {edge: {"release_before": {"serving": "blue"}} for edge in ("edge-1", "edge-2")},
        }
        known = {
            "cpq_tls": True,
            "cpq_units": {"api": {"metrics_port": 9100}},
            "__release_preflight": {"release_id": LATTER, "bundle": "dist", "units": ["api"]},
        }
        return self._plays.run([play], groups, {"window": answer}, **known, **variables)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Which colour each edge was told, in order."""
        return [(each["by"], each["colour"]) for each in self._plays.told]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The commands that were asked for."""
        return self._plays.asked


@pytest.fixture
def colours(tmp_path: Path) -> Colours:
    return Colours(tmp_path)


SWITCH = play_of_release("Send every request to the colour")
BY_HAND = yaml.safe_load((ROOT / "playbooks/colour.yml").read_text())[1]
DECLARED = {"api-1": "blue", "api-2": "green"}


def test_every_edge_sends_requests_to_the_colour_that_has_the_release_and_its_servers_alone_are_watched(
    colours: Colours,
) -> None:
    status, output = colours.run(SWITCH, WELL)

    assert status == 0, output
    assert colours.told == [("edge-1", "green"), ("edge-2", "green")]
    watched, noted = colours.asked
    assert watched["words"] == ["release", "window"]
    assert [(target["host"], target["url"]) for target in watched["input"]["targets"]] == [
        ("api-2", "http://192.0.2.2:9100/metrics")
    ]
    assert watched["input"]["window"]["samples"] == 15
    assert noted["words"][:4] == ["release", "step", "api-switch", "succeeded"]


def test_where_its_answers_are_worse_every_edge_goes_back_and_the_release_ends(colours: Colours) -> None:
    status, output = colours.run(SWITCH, WORSE)

    assert status != 0
    assert f"ended: {WORSE['msg']}" in output
    assert colours.told == [(edge, colour) for colour in ("green", "blue") for edge in ("edge-1", "edge-2")]
    assert [each["words"] for each in colours.asked] == [["release", "window"]]


def test_an_api_without_colours_is_not_switched(colours: Colours) -> None:
    status, output = colours.run(SWITCH, WORSE, ("none", "none"))

    assert (status, colours.told, colours.asked) == (0, [], []), output


def test_an_operator_names_the_colour_that_is_to_serve(colours: Colours) -> None:
    play = {
        **BY_HAND,
        "tasks": [{**task, "loop": ["here"]} if "haproxy_colour" in task else task for task in BY_HAND["tasks"]],
    }
    status, output = colours.run(play, WELL, colour="green", edge_colours=DECLARED)

    assert (status, colours.told) == (0, [("here", "green")] * 2), output


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"edge_colours": DECLARED}, "(found nothing)"),
        ({"edge_colours": DECLARED, "colour": "red"}, "(found red)"),
        ({"edge_colours": {}, "colour": "green"}, "found none)"),
    ],
)
def test_what_is_no_colour_is_refused_and_no_edge_hears_of_it(
    colours: Colours, variables: dict[str, Any], said: str
) -> None:
    status, output = colours.run(BY_HAND, WELL, **variables)

    assert status != 0
    assert said in " ".join(output.split())
    assert colours.told == []
