"""The plays that judge a canary as they are, on hosts that are only described: what they ask, how they end, and what becomes of the cohort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.described_plays import ROOT, DescribedPlays, play_of_release

FORMER, LATTER = "cpq-oms-2026.11.29-001", "cpq-oms-2026.11.30-001"
SINCE = "2026-11-30T08:00:00"
MEASURED = {"error-rate": {"reason": "nobody asked", "applies": True}}
ANSWERS: dict[str, dict[str, Any]] = {
    "observe": {"changed": False, "results": [{"data": {"measured": MEASURED}}]},
    "reprice": {"changed": False, "results": [{"data": {"since": f"{SINCE}+00:00", "release": LATTER}}]},
    "reprice-former": {"changed": False, "results": [{"data": {"since": f"{SINCE}+00:00", "release": FORMER}}]},
}
VERDICTS: dict[str, dict[str, Any]] = {
    "promote": {
        "changed": False,
        "results": [{"report": "promote: percent:5\n", "exit_code": 0, "data": {"verdict": "promote"}}],
    },
    "inconclusive": {
        "changed": False,
        "failed": True,
        "msg": "inconclusive: fallout-rate: too few samples",
        "results": [{"report": "inconclusive: percent:5\n", "exit_code": 4, "data": {"verdict": "inconclusive"}}],
    },
    "abort": {
        "changed": False,
        "failed": True,
        "msg": "abort: price: quote 1 line 1: a cent more",
        "results": [{"report": "abort: percent:5\n", "exit_code": 3, "data": {"verdict": "abort"}}],
    },
    "no answer": {"changed": False, "failed": True, "msg": "cpq-oms-admin gave no answer: gone", "results": []},
}


class Canary:
    """An inventory of two servers, of which api-2 is the canary's, and the plays that judge it."""

    def __init__(self, folder: Path) -> None:
        self._plays = DescribedPlays(folder)

    def run(
        self, plays: list[dict[str, Any]], verdict: str, cohort: str = "percent:5", **variables: Any
    ) -> tuple[int, str]:
        """Run plays on hosts that are nowhere, with a verdict for an answer."""
        seen = {"installed": {"api": FORMER}}
        due = {"app_release_comparison": {"due": ["api"]}}
        api = {
            name: {
                "ansible_host": f"192.0.2.{number}",
                "canary_found": seen,
                "release_before": seen,
                **(due if name == "api-1" else {}),
            }
            for number, name in enumerate(("api-1", "api-2"), 1)
        }
        known = {
            "cpq_canary_cohort": cohort,
            "cpq_canary_hosts": ["api-2"],
            "cpq_tls": True,
            "cpq_units": {"api": {"metrics_port": 9100}, "relay": {"metrics_port": 9120}},
            # What the first play of a release finds out.
            "__release_preflight": {"release_id": LATTER, "bundle": "dist", "units": ["api"]},
        }
        groups: dict[str, dict[str, dict[str, Any]]] = {
            "api": api,
            "admin": {"admin-1": {"__release_is_pending": True}},
            "edge": {"edge-1": {}, "edge-2": {}},
        }
        return self._plays.run(plays, groups, {**ANSWERS, "judge": VERDICTS[verdict]}, **known, **variables)

    def by_hand(self, verdict: str, cohort: str = "percent:5", **variables: Any) -> tuple[int, str]:
        """Run canary.yml after its look at the hosts."""
        _, looking, judging = yaml.safe_load((ROOT / "playbooks/canary.yml").read_text())
        looking["tasks"] = [task for task in looking["tasks"] if "release_facts" not in task]
        return self.run([looking, judging], verdict, cohort, **variables)

    def in_release(self, verdict: str, cohort: str = "percent:5", **variables: Any) -> tuple[int, str]:
        """Run the play of a release that judges its canary."""
        return self.run([play_of_release("Judge the canary")], verdict, cohort, **variables)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The commands that were asked for."""
        return self._plays.asked

    @property
    def told(self) -> list[str]:
        """Which servers of which state proxies were told."""
        return [f"{each['server']} {each['state']}" for each in self._plays.told]


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path)


def test_both_releases_price_what_was_seen_while_servers_were_observed_and_the_judge_hears_all(canary: Canary) -> None:
    status, output = canary.by_hand("promote", canary_former=FORMER, canary_since=SINCE, canary_observation_seconds="5")

    assert status == 0, output
    assert "promote: percent:5" in output
    cohort, since = ("--cohort", "percent:5"), ("--since", SINCE)
    assert [(" ".join(each["words"]), each["by"]) for each in canary.asked] == [
        ("release canary observe", ""),
        (" ".join(("release canary reprice", *cohort, *since)), ""),
        (" ".join(("release canary reprice", *cohort, *since)), FORMER),
        (" ".join(("release canary judge", *cohort, *since)), ""),
    ]
    observed, *_, judged = (each["input"] for each in canary.asked)
    assert (observed["canary_hosts"], observed["observation_seconds"]) == (["api-2"], 5)
    assert [(target["host"], target["url"], target["installed"]) for target in observed["targets"]] == [
        ("api-1", "http://192.0.2.1:9100/metrics", True),
        ("api-2", "http://192.0.2.2:9100/metrics", True),
    ]
    assert judged["servers"] == MEASURED
    assert (judged["former_prices"]["release"], judged["prices"]["release"]) == (FORMER, LATTER)


def test_a_former_release_that_cannot_price_leaves_its_side_out(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    unable = {"changed": False, "failed": True, "msg": "cpq-oms-admin gave no answer", "results": [], "by_command": {}}
    monkeypatch.setitem(ANSWERS, "reprice-former", unable)
    status, output = canary.by_hand("promote", canary_former=FORMER)

    assert status == 0, output
    assert canary.asked[-1]["input"]["former_prices"] is None
    # Since when it was a canary is the journal's to say.
    assert canary.asked[1]["words"] == ["release", "canary", "reprice", "--cohort", "percent:5"]


@pytest.mark.parametrize(
    ("verdict", "said"), [("inconclusive", "too few samples"), ("abort", "a cent more"), ("no answer", "gone")]
)
def test_what_is_no_promotion_fails_with_its_reason(canary: Canary, verdict: str, said: str) -> None:
    status, output = canary.by_hand(verdict, canary_former=FORMER)

    assert status != 0
    assert said in output
    assert (f"{verdict}: percent:5" in output) == (verdict != "no answer")
    assert canary.told == []


@pytest.mark.parametrize(
    ("cohort", "variables", "said"),
    [
        ("", {"canary_former": FORMER}, "(found none)"),
        ("percent:5", {}, "canary_former (found none)"),
        ("percent:5", {"canary_former": FORMER, "canary_since": "yesterday"}, "canary_since (found yesterday)"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_asked(
    canary: Canary, cohort: str, variables: dict[str, str], said: str
) -> None:
    status, output = canary.by_hand("promote", cohort, **variables)

    assert status != 0
    assert said in " ".join(output.split())
    assert canary.asked == []


def test_a_release_goes_on_after_a_promotion_and_keeps_the_verdict(canary: Canary) -> None:
    status, output = canary.in_release("promote")

    assert status == 0, output
    assert canary.asked[2]["by"] == FORMER
    note = canary.asked[-1]["words"]
    assert note[:4] == ["release", "step", "canary", "succeeded"]
    assert json.loads(note[-1]) == {"verdict": "promote", "despite": ""}
    assert canary.told == []


def test_a_release_whose_canary_is_worse_ends_and_sends_its_cohort_to_the_others(canary: Canary) -> None:
    status, output = canary.in_release("abort", release_canary_despite="it is only a cent")

    assert status != 0
    assert "ended: abort: price: quote 1 line 1: a cent more. Its cohort is sent to the other hosts again" in output
    assert canary.told == ["api-2 drained"] * 2
    assert canary.asked[-1]["words"][2] == "judge"


def test_a_release_whose_canary_is_open_ends_and_leaves_it_to_go_on(canary: Canary) -> None:
    status, output = canary.in_release("inconclusive")

    assert status != 0
    assert "ended: inconclusive: fallout-rate: too few samples. Its cohort goes on: run the release again" in output
    assert canary.told == []


def test_a_person_may_say_why_an_open_verdict_is_enough(canary: Canary) -> None:
    status, output = canary.in_release("inconclusive", release_canary_despite="night, OPS-12")

    assert status == 0, output
    assert json.loads(canary.asked[-1]["words"][-1]) == {"verdict": "inconclusive", "despite": "night, OPS-12"}


@pytest.mark.parametrize("word", ["", "  "])
def test_no_answer_ends_a_release_whatever_a_person_says(canary: Canary, word: str) -> None:
    status, output = canary.in_release("no answer", release_canary_despite=word or "night, OPS-12")

    assert status != 0
    assert "ended: cpq-oms-admin gave no answer: gone" in output


def test_a_release_without_a_canary_asks_nobody(canary: Canary) -> None:
    status, output = canary.in_release("abort", cohort="")

    assert status == 0, output
    assert canary.asked == []
