"""`make bench-topology`: how long a whole environment takes from no hosts to a passed smoke test, and a repeat with nothing new.

Times go to the terminal beside their limits and are recorded by hand, with date and machine, in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(target: str, environment: str) -> tuple[float, str]:
    """Run one make target; return its seconds and what it said, or stop the benchmark with the output's end."""
    started = time.monotonic()
    done = subprocess.run(
        ["make", target, f"ENV={environment}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
        sys.exit(f"bench-topology: make {target} failed, so there is no time to report")
    return time.monotonic() - started, done.stdout


def main() -> int:
    """Measure and print the table, with the longest plays of the first run."""
    parser = argparse.ArgumentParser(prog="make bench-topology", description=__doc__)
    parser.add_argument("--environment", default="staging", help="inventory to bring up (default: staging)")
    environment = parser.parse_args().environment
    make("down", environment)
    first, said = make("up", environment)
    again, repeated = make("up", environment)
    make("down", environment)
    plays = re.findall(r"^  (\S.*?) +(\d+\.\d) s$", said, re.MULTILINE)
    print(f"{'what':<44}{'limit s':>9}{'measured s':>12}{'of limit':>10}")
    for name, limit, seconds in (
        ("no hosts to passed smoke, caches warm", 360.0, first),
        ("repeat with nothing new", 60.0, again),
    ):
        print(f"{name:<44}{limit:>9.0f}{seconds:>12.1f}{seconds / limit:>10.2f}")
    print("\nlongest plays of the first run")
    for title, seconds in sorted(plays, key=lambda play: -float(play[1]))[1:9]:
        print(f"{float(seconds):>9.1f} s  {title}")
    changed = re.findall(r"^ *changed .*", repeated, re.MULTILINE)
    print("\n".join(["\nthe repeat changed:", *changed]) if changed else "\nthe repeat changed nothing")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
