"""`make bench-release-load`: a release up and a rollback down while orders come in at 70 % of what the environment can answer.

The environment must be up (`make up ENV=staging`). First customers order as fast as they are answered, beside a release that changes nothing:
that is the limit, for the control machine and the hosts share this machine. Then orders are begun at 70 % of that rate, whatever becomes of
those before, while the same content is released under a later id, so that every process of every tier is replaced, and rolled back. Every attempt
without an answer, or with a refusal that a repeat may change, counts as failed; every order must be completed, with the effects outside
that an order has which nobody disturbed, neither more nor less. Exit status 1 when one failed or differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.bundles import reissued
from tests.support.rehearsal import Rehearsal

ROOT = Path(__file__).resolve().parents[2]
SHARE = 0.7
CUSTOMERS = 24
LEDGER = "curl -sf --max-time 30 http://127.0.0.1:8090/control/ledger"


def effects(rehearsal: Rehearsal) -> dict[str, Counter[str]]:
    """Return what the systems outside did for each order, by system."""
    done: dict[str, Counter[str]] = {}
    for effect in json.loads(rehearsal.run("stand-in", LEDGER).stdout)["effects"]:
        done.setdefault(effect["orderId"], Counter())[effect["system"]] += 1
    return done


def differing(rehearsal: Rehearsal, orders: list[str], undisturbed: list[str]) -> dict[str, dict[str, int]]:
    """Return the effects of those orders that had others than every undisturbed one, by order."""
    done = effects(rehearsal)
    usual = [done.get(order, Counter()) for order in undisturbed]
    assert usual
    assert all(usual), "an undisturbed order had no effect outside"
    assert all(each == usual[0] for each in usual), "undisturbed orders differ in their effects"
    return {order: dict(done.get(order, Counter())) for order in orders if done.get(order) != usual[0]}


def newest_bundle() -> Path:
    """Return the bundle that was built last."""
    return max((ROOT / "dist").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns).parent


def told_of(name: str, told: dict[str, Any]) -> None:
    """Print one line of the table."""
    took = sorted(told["took"])
    p50, p99 = (statistics.quantiles(took, n=100)[at] for at in (49, 98))
    row = f"{len(took):>8}{len(told['failed']):>9}{p50:>9.2f}{p99:>9.2f}{told['pause']:>11.2f}"
    print(f"{name:<44}{row}", flush=True)


def main() -> int:
    """Measure, print the table, and say what failed."""
    parser = argparse.ArgumentParser(prog="make bench-release-load", description=__doc__)
    parser.add_argument("--environment", default="staging", help="environment that is up (default: staging)")
    parser.add_argument("--seconds", type=int, default=30, help="how long the limit and the quiet time are measured")
    arguments = parser.parse_args()
    rehearsal = Rehearsal(arguments.environment)
    bundle = newest_bundle()
    released = ("release.yml", "-e", f"release_bundle={bundle}")
    rehearsal.play(*released)

    with rehearsal.customers(customers=CUSTOMERS) as most:
        rehearsal.play(*released)
    limit = len(most["orders"]) / max(most["answered"])
    rate = SHARE * limit
    print(f"limit {limit:.1f} orders a second beside a release that changes nothing; {SHARE:.0%} of it are {rate:.1f}")
    print(f"{'':<44}{'orders':>8}{'failed':>9}{'p50 s':>9}{'p99 s':>9}{'pause s':>11}")
    told: dict[str, dict[str, Any]] = {}
    with rehearsal.customers(rate=rate, customers=CUSTOMERS) as told["nothing else"]:
        time.sleep(arguments.seconds)
    told_of("nothing else", told["nothing else"])
    with tempfile.TemporaryDirectory() as folder:
        later = Path(folder) / "bundle"
        reissued(bundle, later)
        for name, play in (
            ("release up", ("release.yml", "-e", f"release_bundle={later}")),
            ("rollback down", ("rollback.yml", "-e", f"rollback_bundle={bundle}")),
        ):
            began = time.monotonic()
            with rehearsal.customers(rate=rate, customers=CUSTOMERS) as told[name]:
                rehearsal.play(*play)
            told_of(f"{name}, {time.monotonic() - began:.0f} s with its orders", told[name])

    problems = []
    undisturbed = list(told["nothing else"]["orders"].values())
    for name, what in told.items():
        problems += [f"{name}: failed: {attempt} ({times} times)" for attempt, times in Counter(what["failed"]).items()]
        problems += [f"{name}: {kind}: {what[kind]}" for kind in ("gave_up", "missing", "unfinished") if what[kind]]
        others = differing(rehearsal, list(what["orders"].values()), undisturbed)
        problems += [f"{name}: {order} had the effects {had}" for order, had in others.items()]
    print(
        "\n".join(["", *problems])
        if problems
        else "\nno request failed, no order is missing, every effect is there once"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
