"""The commands a person types: what `make help` shows is what there is, and CI runs the test command."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    targets = re.findall(r"^([a-zA-Z][\w-]*):(?!=)", MAKEFILE, re.MULTILINE)

    shown = re.findall(r"^  make (\S+) +\S", listed, re.MULTILINE)
    assert sorted(shown) == sorted(phony.split()) == sorted(targets)


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()

    assert [line for line in lines if not line.startswith("#")] == [
        'exec python3 "$(dirname "$0")/../bootstrap.py" test'
    ]
    assert re.search(r"^test:.*\n\t@\$\(STAGES\)$", MAKEFILE, re.MULTILINE)
    assert "STAGES := exec $(SETUP) test\n" in MAKEFILE
    assert "SETUP := python3 bootstrap.py\n" in MAKEFILE
