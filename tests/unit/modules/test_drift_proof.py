"""The proof of the comparison cannot pass without trying every plane, and fails on what is missed as on what is said beside it."""

from __future__ import annotations

from typing import Any

from tests.drift_proof.mutations import MUTATIONS
from tests.drift_proof.proof import LEAST, choose, gaps, planes, problems
from tests.support.released_host import ReleasedHost

HOST = ReleasedHost("ci", "ci-1", "10.0.0.1")
MUTATION = next(mutation for mutation in MUTATIONS if mutation.name == "kernel setting")
FOUND = {
    "host": "ci-1",
    "plane": "sysctl",
    "item": "net.core.somaxconn",
    "expected": "4096",
    "found": "128",
    "remedy": "",
}


def report(*findings: dict[str, str], unseen: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    """What a comparison said."""
    return {"findings": [*findings], "unseen": [*unseen]}


def test_every_plane_has_an_alteration_and_there_are_as_many_as_promised() -> None:
    assert gaps() == []


def test_a_plane_without_an_alteration_is_refused() -> None:
    without = [mutation for mutation in MUTATIONS if mutation.plane != "nftables"]

    assert "no alteration of the plane nftables" in gaps(without)


def test_too_few_alterations_are_refused() -> None:
    few = list({mutation.plane: mutation for mutation in MUTATIONS}.values())

    assert gaps(few) == [f"{len(planes())} alterations, {LEAST} are promised"]


def test_what_is_found_and_nothing_else_is_no_problem() -> None:
    assert problems(MUTATION, HOST, report(FOUND)) == []


def test_what_is_missed_said_of_another_host_or_otherwise_is_a_problem() -> None:
    assert problems(MUTATION, HOST, report())
    assert problems(MUTATION, HOST, report({**FOUND, "host": "ci-2"}))
    assert problems(MUTATION, HOST, report({**FOUND, "found": "129"}))
    assert problems(MUTATION, HOST, report({**FOUND, "expected": "128"}))


def test_what_is_said_beside_it_and_what_was_not_seen_is_a_problem() -> None:
    other = {**FOUND, "plane": "packages", "item": "curl"}

    assert problems(MUTATION, HOST, report(FOUND, other))
    assert problems(MUTATION, HOST, report(FOUND, unseen=({"host": "ci-1", "plane": "bpmn", "reason": "no answer"},)))


def test_some_are_chosen_of_different_planes_the_same_for_the_same_commit() -> None:
    chosen = choose(6, "one")

    assert chosen == choose(6, "one")
    assert chosen != choose(6, "another")
    assert len({mutation.plane for mutation in chosen}) == 6
