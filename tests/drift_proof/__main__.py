"""`make drift-proof`: alters a released host in one thing after the other and holds each comparison to finding it, and no more.

Usage: python -m tests.drift_proof [--bundle DIR] [NAME ...]

Every comparison between the first and the last is also one of a host from which the former alteration was taken back, so that what
one leaves behind is a false alarm of the next.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.drift_proof.mutations import MUTATIONS, Mutation
from tests.drift_proof.proof import ROOT, compare, false_alarms, gaps, prepare, problems
from tests.support.released_host import ReleasedHost, find_host


def main(words: Sequence[str]) -> int:
    """Run the proof; exit 1 when anything was missed or taken for an alteration."""
    parser = argparse.ArgumentParser(prog="tests.drift_proof", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="the bundle that is released (default: the newest in dist)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="alterations (default: all)")
    arguments = parser.parse_args(words)
    unknown = sorted(set(arguments.names) - {mutation.name for mutation in MUTATIONS})
    if lacking := [*gaps(), *(f"no alteration is called {name}" for name in unknown)]:
        print("\n".join(lacking), file=sys.stderr)
        return 1
    bundles = sorted((ROOT / "dist").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    bundle = arguments.bundle or bundles[-1].parent
    chosen = [mutation for mutation in MUTATIONS if not arguments.names or mutation.name in arguments.names]
    return prove(find_host(), chosen, bundle)


def prove(host: ReleasedHost, mutations: Sequence[Mutation], bundle: Path) -> int:
    """Compare, alter, compare, take back, and compare; print a line for each."""
    prepare(host)
    bad = _show("nothing altered", "", false_alarms(compare(bundle)))
    for mutation in mutations:
        started = time.monotonic()
        prepare(host)
        mutation.plant(host)
        try:
            found = problems(mutation, host, compare(bundle))
        finally:
            mutation.undo(host)
        bad += _show(f"{mutation.plane}: {mutation.name}", f"{time.monotonic() - started:.1f} s", found)
    bad += _show("nothing altered any more", "", false_alarms(compare(bundle)))
    print(f"{len(mutations)} alterations, {bad} comparisons that said something else")
    return 1 if bad else 0


def _show(what: str, seconds: str, found: Sequence[str]) -> int:
    print(f"  {'BAD ' if found else 'ok  '} {what:<50} {seconds}", flush=True)
    for line in found:
        print(f"       {line}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    # What is altered at that moment is taken back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
