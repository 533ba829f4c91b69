"""Secrets are where they belong and nowhere else: each is random and forty characters long, so wherever it is found, it leaked."""

from __future__ import annotations

import secrets

import pytest

from app.contracts.loader import load_secrets
from tests.support import secret_search
from tests.support.rehearsal import ROOT, Rehearsal

NAMES = list(load_secrets().secrets)


@pytest.fixture
def values(rehearsal: Rehearsal) -> dict[str, str]:
    found = {name: rehearsal.secret(name) for name in NAMES}
    assert len(set(found.values())) == len(NAMES)
    assert not [name for name, value in found.items() if len(value) < 20]
    return found


def search(rehearsal: Rehearsal, host: str, wanted: dict[str, str]) -> list[str]:
    """Return where on a host one of them is."""

    def run(command: str, standard_input: str) -> str:
        return rehearsal.run(host, command, standard_input=standard_input).stdout

    return secret_search.search(run, wanted)


def test_no_host_shows_a_secret(rehearsal: Rehearsal, values: dict[str, str]) -> None:
    assert {host: leaks for host in rehearsal.hosts if (leaks := search(rehearsal, host, values))} == {}


def test_the_search_finds_a_canary_in_journal_environment_and_command_line(rehearsal: Rehearsal) -> None:
    host = next(iter(rehearsal.hosts))
    canaries = {place: f"canary{secrets.token_hex(20)}" for place in ("journal", "environ", "cmdline")}
    rehearsal.run(host, "logger -f /dev/stdin; journalctl --sync", standard_input=f"{canaries['journal']}\n")
    rehearsal.run(host, f"CANARY={canaries['environ']} timeout 60 sleep 59 >/dev/null 2>&1 &")
    rehearsal.run(host, f"exec -a {canaries['cmdline']} timeout 60 sleep 58 >/dev/null 2>&1 & exit")

    assert {f"{place} in {place}" for place in canaries} <= set(search(rehearsal, host, canaries))


def test_a_releases_diff_and_its_loudest_output_show_no_secret(rehearsal: Rehearsal, values: dict[str, str]) -> None:
    said = [
        # The roles, too, where nothing differs.
        rehearsal.play(playbook, "--check", "--diff", "-vvv", "-e", "site_anew=true", check=False)
        for playbook in ("release.yml", "playbooks/site.yml")
    ]

    assert all("PLAY RECAP" in done.stdout for done in said)
    assert secret_search.in_text("".join(done.stdout + done.stderr for done in said), values) == []


def test_bundle_and_repository_hold_no_secret(values: dict[str, str]) -> None:
    bundle = [path for path in (ROOT / "dist").rglob("*") if path.is_file()]

    assert bundle, "no bundle was built"
    assert secret_search.in_files(bundle, values) == []
    assert secret_search.in_history(ROOT, values) == []
