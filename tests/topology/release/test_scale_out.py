"""What can be known of adding a host before there is one: bad input, and whether every figure is told by the environment that runs."""

from __future__ import annotations

import json

import pytest

from playbooks.filter_plugins.scaling import scaling_judgement, scaling_questions
from tests.topology.release.conftest import Environment

ASK = "curl --silent --fail-with-body http://127.0.0.1:9090/api/v1/query --data-urlencode query@-"


@pytest.mark.parametrize(
    ("tier", "host", "reason"),
    [
        ("relay", "HOST", "scale_out_tier: expected api or worker, found relay"),
        ("worker", "worker-9", "in the group worker and in no other, found worker-9"),
        ("api", "HOST", "in the group api and in no other, found HOST"),
    ],
)
def test_a_host_that_cannot_be_added_is_named_before_any_host_is_touched(
    environment: Environment, tier: str, host: str, reason: str
) -> None:
    name = environment.host.name
    run = environment.release(
        *("-e", f"scale_out_tier={tier}", "-e", f"scale_out_host={host.replace('HOST', name)}"),
        playbooks=("playbooks/scale_out.yml",),
    )

    assert run.code != 0
    assert reason.replace("HOST", name) in run.output
    assert "Ask the host who it is" not in run.output


@pytest.mark.parametrize("tier", ["api", "worker"])
def test_every_figure_that_a_tier_is_judged_by_is_told(environment: Environment, tier: str) -> None:
    answers = [
        {"item": question, "json": json.loads(environment.host.run(ASK, standard_input=question["query"]).stdout)}
        for question in scaling_questions(tier)
    ]

    missing = [answer["item"]["name"] for answer in answers if not answer["json"]["data"]["result"]]
    assert missing == []
    assert scaling_judgement(answers, tier)["bottleneck"] != "unknown"
