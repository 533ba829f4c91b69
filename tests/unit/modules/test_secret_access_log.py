"""Who opened or changed secrets: every line stays as it was written, or the record says where it does not."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from playbooks.module_utils import secret_access_log as log

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control/secret-access.jsonl"


def three(path: Path) -> None:
    for did in ("opened the vaults", "made", "ended the rotation of"):
        log.record(path, did, secret="db_api_password", environment="staging")


def test_lines_say_who_and_what_and_only_their_owner_reads_them(path: Path) -> None:
    three(path)

    entries, broken = log.read(path)
    assert broken is None
    assert [(one["did"], one["secret"], one["environment"]) for one in entries][1] == (
        "made",
        "db_api_password",
        "staging",
    )
    assert all(one["user"] and one["at"].endswith("Z") for one in entries)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("change", ["altered", "taken out", "torn", "put in"])
def test_a_changed_line_is_found(path: Path, change: str) -> None:
    three(path)
    lines = path.read_bytes().splitlines(keepends=True)
    altered = json.dumps(json.loads(lines[1]) | {"user": "nobody"}).encode() + b"\n"
    changed = {
        "altered": [lines[0], altered, lines[2]],
        "taken out": [lines[0], lines[2]],
        "torn": [lines[0], lines[1][:20] + b"\n"],
        "put in": [lines[0], lines[0], *lines[1:]],
    }[change]
    path.write_bytes(b"".join(changed))

    assert log.read(path)[1] == 2

    log.record(path, "opened the vaults")
    assert log.read(path)[1] == 2


def test_writers_at_the_same_time_make_one_chain(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(three, [path] * 4)

    entries, broken = log.read(path)
    assert (len(entries), broken) == (12, None)


def test_variables_of_a_command_line_have_no_values() -> None:
    given = [
        "ansible-playbook",
        "-i",
        "prod",
        "x.yml",
        "-e",
        "secret=db_api_password",
        "-etoken=canary",
        "--extra-vars={'a': 'canary'}",
        "-e",
        "@canary",
    ]

    assert log.without_values(given) == "ansible-playbook -i prod x.yml -e secret=… -e token=… -e … -e …"


def test_the_vaults_password_is_not_given_out_unrecorded(tmp_path: Path) -> None:
    """The script with its two files in a folder of the test."""
    script = tmp_path / "playbooks/vault_password.py"
    script.parent.mkdir()
    (script.parent / "module_utils").symlink_to(ROOT / "playbooks/module_utils")
    text = (
        (ROOT / "playbooks/vault_password.py")
        .read_text()
        .replace("/etc/cpq-oms/vault-password", str(tmp_path / "password"))
    )
    script.write_text(text)
    (tmp_path / "password").write_text("canary\n")

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)

    done = ask()
    assert (done.returncode, done.stdout) == (0, "canary")
    (entry,), broken = log.read(tmp_path / "secret-access.jsonl")
    assert (entry["did"], broken) == ("opened the vaults", None)
    assert str(os.getpid()) not in entry["command"]
    assert "canary" not in (tmp_path / "secret-access.jsonl").read_text()

    (tmp_path / "secret-access.jsonl").unlink()
    (tmp_path / "secret-access.jsonl").mkdir()
    done = ask()
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody opens a vault unrecorded" in done.stderr
