"""Builds the release bundle of a checkout and prints what came of it as one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from artifact_build.bundle import Builder
from artifact_build.refusal import RefusedError
from artifact_build.source import read_source


def main(argv: Sequence[str] | None = None) -> int:
    """Build; exit status 1 with one line on standard error when the build refuses."""
    parser = argparse.ArgumentParser(prog="artifact_build", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="root of the git checkout")
    parser.add_argument("--output", type=Path, required=True, help="folder of the bundles, one per release id")
    parser.add_argument("--cache", type=Path, required=True, help="folder of wheels and artifacts")
    parser.add_argument("--signing-key", type=Path, required=True, help="Ed25519 key of OpenSSH; made when missing")
    parser.add_argument("--unit", action="append", required=True, dest="units", help="deployable to build; repeat")
    parser.add_argument("--keep", type=int, default=5, help="bundles to keep besides the new one")
    parser.add_argument("--dry-run", action="store_true", help="tell the release id and whether a build is due")
    arguments = parser.parse_args(argv)
    os.umask(0o022)
    try:
        builder = Builder(
            source=read_source(arguments.source.resolve()),
            units=arguments.units,
            output=arguments.output.resolve(),
            cache=arguments.cache.resolve(),
            signing_key=arguments.signing_key.absolute(),
            keep=arguments.keep,
            progress=lambda step: print(step, file=sys.stderr),  # noqa: T201 - the command's interface
        )
        built = builder.build(dry_run=arguments.dry_run)
    except RefusedError as refusal:
        print(f"artifact_build: {refusal}", file=sys.stderr)  # noqa: T201 - the command's interface
        return 1
    print(json.dumps(asdict(built)))  # noqa: T201 - the command's interface
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
