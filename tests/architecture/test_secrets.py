"""No key and no token is committed: what looks like one is in tests alone, made there for the purpose."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What these say is made up: they look for secrets in what they made.
MADE_UP = {"tests/unit/modules/test_postgresql_access.py", "tests/unit/modules/test_support_bundle.py"}
LOOKS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/]{20}"
    rb"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."
    rb"|SCRAM-SHA-256\$\d+:[\w+/=]{16,}\$"
    rb"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abprs]-[\w-]{10,}"
)


def test_no_file_of_the_repository_holds_a_key_or_a_token() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 500, "the files of the repository were not found"

    found = [name for name in files if name not in MADE_UP and LOOKS.search((ROOT / name).read_bytes())]

    assert found == []


@pytest.mark.parametrize(
    "secret",
    [
        b"-----BEGIN " + b"OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU",
        b"eyJhbGciOiJFUzI1NiJ9" + b".eyJ0ZW5hbnQiOiJhY21lIn0.c2lnbmF0dXJl",
        b"SCRAM-SHA-256" + b"$4096:c2FsdHNhbHRzYWx0$c3RvcmVk:c2VydmVy",
        b"AKIA" + b"ABCDEFGHIJKLMNOP",
    ],
)
def test_what_is_committed_by_mistake_is_seen(secret: bytes) -> None:
    assert LOOKS.search(b"key: " + secret)
