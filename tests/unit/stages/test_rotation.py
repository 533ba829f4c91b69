"""What is tried when there is not time for all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import stages
from tests.support.rotation import ROOT, Newest, in_turn

ROLES = [
    (f"roles/{name}", scenario) for name in ("edge", "edges", "kafka", "redis") for scenario in ("default", "other")
]


def test_what_the_newest_commit_touches_comes_first_and_nothing_is_lost() -> None:
    newest = Newest("c0ffee", ("docs/status.md", "roles/edge/tasks/main.yml"))

    order = in_turn(ROLES, newest)

    assert {path for path, _ in order[:2]} == {"roles/edge"}
    assert sorted(order) == sorted(ROLES)


def test_a_module_is_touched_by_its_own_path() -> None:
    modules = [("tests/a.py", ""), ("tests/b.py", ""), ("tests/c.py", "")]

    assert all(in_turn(modules, Newest(str(commit), ("tests/c.py",)))[0][0] == "tests/c.py" for commit in range(20))


def test_a_commit_has_one_order_and_commits_bring_each_to_the_front() -> None:
    orders = [tuple(in_turn(ROLES, Newest(str(commit), ()))) for commit in range(200)]

    assert in_turn(ROLES[::-1], Newest("7", ())) == list(orders[7])
    assert {order[0] for order in orders} == set(ROLES)


def test_no_module_of_the_topology_is_begun_after_its_time_and_each_is_named() -> None:
    modules = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/topology").rglob("test_*.py"))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/topology", "--begin-within=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    named = [line.split(": ")[1].split(" ")[0] for line in done.stdout.splitlines() if line.startswith("not begun")]
    assert sorted(named) == modules
    assert "passed" not in done.stdout


@pytest.mark.parametrize(("elapsed", "minutes"), [(0, "18.0"), (22, "18.0"), (27, "13.0"), (34, "6.0"), (80, "6.0")])
def test_what_rotates_takes_what_a_slower_machine_left(
    monkeypatch: pytest.MonkeyPatch, elapsed: float, minutes: str
) -> None:
    monkeypatch.setattr(stages, "BEGAN", 1000.0)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 + elapsed * 60)

    assert stages.minutes_for(6, 18, later=20) == minutes
