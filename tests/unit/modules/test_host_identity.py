from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.ansible_modules import LIBRARY, load

IDENTITY = load("host_identity", LIBRARY.parent / "module_utils")
EXPECTED = {"environment": "staging", "host": "api-1", "tiers": ["api", "callback"]}


def say(folder: Path, **changes: object) -> None:
    (folder / "identity.json").write_text(json.dumps({**EXPECTED, **changes}))


def certify(folder: Path, subject: str) -> None:
    component = folder / "tls/api"
    component.mkdir(parents=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        subject,
    ]
    command += ["-days", "1", "-keyout", str(folder / "key.pem"), "-out", str(component / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)


def test_a_host_that_says_nothing_may_become_anything(tmp_path: Path) -> None:
    assert IDENTITY.problem(EXPECTED, tmp_path) == ""


def test_the_expected_host_passes_whatever_the_order_of_its_tiers(tmp_path: Path) -> None:
    say(tmp_path, tiers=["callback", "api"])
    certify(tmp_path, "/CN=api@api-1/O=staging/OU=api")

    assert IDENTITY.problem(EXPECTED, tmp_path) == ""


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"environment": "prod"}, "found api-1 of prod (api, callback)"),
        ({"host": "api-2"}, "found api-2 of staging (api, callback)"),
        ({"tiers": ["db"]}, "found api-1 of staging (db)"),
        ({"tiers": ["api"]}, "found api-1 of staging (api)"),
    ],
)
def test_another_host_is_named_in_one_line_with_the_remedy(
    tmp_path: Path, changes: dict[str, object], found: str
) -> None:
    say(tmp_path, **changes)

    line = IDENTITY.problem(EXPECTED, tmp_path)

    assert line.startswith("api-1: expected api-1 of staging (api, callback), found")
    assert found in line
    assert "give the inventory of that environment (-i)" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "subject",
    ["/CN=api@api-1/O=prod/OU=api", "/CN=api@api-9/O=staging/OU=api", "/CN=api@api-1/O=staging/OU=db", "/CN=other"],
)
def test_a_certificate_of_another_host_is_found_without_the_file(tmp_path: Path, subject: str) -> None:
    certify(tmp_path, subject)

    assert "tls/api/cert.pem" in IDENTITY.problem(EXPECTED, tmp_path)


@pytest.mark.parametrize("line", ["APP_ENV=prod", 'APP_ENV="prod"'])
def test_settings_of_another_environment_are_named_with_their_file(tmp_path: Path, line: str) -> None:
    say(tmp_path)
    (tmp_path / "api.env").write_text('APP_ENV="staging"\n')
    assert IDENTITY.problem(EXPECTED, tmp_path) == ""
    (tmp_path / "worker-starter.env").write_text(f'API_WORKERS="2"\n{line}\nDB_URL="x"\n')

    said = IDENTITY.problem(EXPECTED, tmp_path)

    assert said.startswith("api-1: redis-namespace: expected APP_ENV=staging, found prod in ")
    assert "worker-starter.env; find out who wrote it" in said


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_file_that_says_nothing_readable_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.json").write_text(text)

    assert "identity.json cannot be read" in IDENTITY.problem(EXPECTED, tmp_path)
