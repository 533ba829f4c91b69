"""`make bench-release`: how long a release takes, from warm caches, repeated, and on request from nothing at all.

Times go to the terminal beside their limits and are recorded by hand, with date and machine, in docs/benchmarks.md.
Nothing here asserts a time: machines differ. It runs against the environment of the tests, whose hosts it makes anew.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "ci"
CACHE = Path("/var/cache/cpq-oms")
ASIDE = CACHE.with_name("cpq-oms.aside-for-bench")


def make(*arguments: str, cwd: Path = ROOT, home: Path | None = None) -> float:
    """Run one make target with its output kept; return the seconds it took, or stop the benchmark with the output's end."""
    started = time.monotonic()
    done = subprocess.run(
        ["make", *arguments, f"ENV={ENVIRONMENT}"],
        cwd=cwd,
        env=os.environ if home is None else {**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
        sys.exit(f"bench-release: make {' '.join(arguments)} failed, so there is no time to report")
    return time.monotonic() - started


def from_nothing() -> float:
    """Time the first release of a new clone, with no cache of ours and none in the home directory either."""
    make("down")
    CACHE.rename(ASIDE)
    try:
        with tempfile.TemporaryDirectory(prefix="cpq-oms-bench-") as place:
            clone, home = Path(place) / "clone", Path(place) / "home"
            home.mkdir()
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            return make("release", cwd=clone, home=home)
    finally:
        make("down")
        if CACHE.exists():
            subprocess.run(["rm", "-rf", "--", str(CACHE)], check=True)
        ASIDE.rename(CACHE)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-release", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each measurement; the median counts")
    parser.add_argument(
        "--cold", action="store_true", help="measure from empty caches too (moves them aside and back, once)"
    )
    arguments = parser.parse_args()
    rows: list[tuple[str, float, list[float]]] = []
    if arguments.cold:
        rows.append(("from nothing at all to a fulfilled order", 600.0, [from_nothing()]))
    first: list[float] = []
    again: list[float] = []
    for _ in range(arguments.repeats):
        make("down")
        first.append(make("release"))
        again.append(make("release"))
    make("down")
    rows.append(("no host to fulfilled order, caches warm", 150.0, first))
    rows.append(("repeat with nothing new", 30.0, again))
    print(f"{'what':<44}{'limit s':>9}{'median s':>10}{'min s':>8}{'max s':>8}{'of limit':>10}")
    for name, limit, seconds in rows:
        median = sorted(seconds)[len(seconds) // 2]
        print(f"{name:<44}{limit:>9.0f}{median:>10.1f}{min(seconds):>8.1f}{max(seconds):>8.1f}{median / limit:>10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
