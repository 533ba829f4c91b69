"""A support bundle holds no secret, however it is written, and is not written at all where one is left."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contracts.loader import DIRECTORY
from playbooks.module_utils import support_archive
from playbooks.module_utils.masking import leaks, likely_masked, without_likely_secrets
from playbooks.module_utils.support_archive import ArchiveRefusedError, archive, kept
from tests.support.ansible_modules import load

ROOT = Path(__file__).resolve().parents[3]
sys.modules["ansible.module_utils.host_identity"] = load("host_identity", ROOT / "playbooks/module_utils")
SUPPORT = load("support_bundle", ROOT / "playbooks/action_plugins")
COLLECTING = load("support_facts")
CANARY = "cAnArY/+&<1>\"x'%2=yQ"
WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for addresses": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 behind one byte": lambda value: base64.b64encode(f"u{value}:".encode()).decode(),
    "base64 behind two bytes": lambda value: base64.b64encode(f"u:{value}z".encode()).decode(),
    "in an address": lambda value: urllib.parse.quote(value, safe=""),
    "in an address, lower case": lambda value: urllib.parse.quote(value, safe="").lower(),
    "in a form": urllib.parse.quote_plus,
    "in a page": html.escape,
    "in JSON": json.dumps,
    "hexadecimal": lambda value: value.encode().hex(),
}
# What no masker thinks of, and whoever reads could turn back.
STRANGE: dict[str, Callable[[str], str]] = {
    "every sign with a percent sign": lambda value: "".join(f"%{ord(one):02X}" for one in value),
    "every sign escaped": lambda value: "".join(f"\\u{ord(one):04x}" for one in value),
    "every sign an entity": lambda value: "".join(f"&#{ord(one)};" for one in value),
    "base64 of what is in an address": lambda value: base64.b64encode(urllib.parse.quote(value, safe="").encode()).decode(),
    "base64 over lines": lambda value: base64.encodebytes(f"{'x' * 50}{value}{'x' * 30}".encode()).decode(),
}  # fmt: skip
# A lower-case percent form of a value with capitals is another value.
LOWER = "canary/+&<1>=yq9"


def value_for(name: str) -> str:
    """The value that is written in a way."""
    return LOWER if "lower" in name else CANARY


def read(packed: bytes) -> dict[str, str]:
    """The files of an archive, by path."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as reader:
        found = {entry.name: reader.extractfile(entry) for entry in reader}
        return {name: stream.read().decode() for name, stream in found.items() if stream}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_secret_is_masked_as_programs_write_it(name: str) -> None:
    value = value_for(name)
    written = WRITTEN[name](value)
    text = f"before\nx = {written} end\n"

    # A log that was masked by nobody is seen, so the silence below means something.
    assert leaks(text.encode(), {"api": value}) == ["api"]
    [masked] = read(archive("s", {"log": text}, {"api": value})).values()

    assert "[masked: api]" in masked
    assert written not in masked
    assert leaks(masked.encode(), {"api": value}) == []
    assert masked.startswith("before\n")


@pytest.mark.parametrize("name", STRANGE)
def test_what_was_not_masked_is_found_and_nothing_is_written(name: str) -> None:
    text = f"before {STRANGE[name](CANARY)} after"

    with pytest.raises(ArchiveRefusedError, match=r"s/log still holds api after it was masked"):
        archive("s", {"log": text}, {"api": CANARY})


def test_a_masker_that_forgets_a_secret_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        def __init__(self, secrets: Any) -> None:
            """Remember none."""

        def masked(self, text: str) -> str:
            """Mask nothing."""
            return text

    monkeypatch.setattr(support_archive, "Masker", Forgetful)
    for place in ({"a.log": f"password {CANARY}"}, {f"{CANARY}.log": "-"}):
        with pytest.raises(ArchiveRefusedError, match="still holds api"):
            archive("s", place, {"api": CANARY})


def test_both_values_of_a_secret_that_is_being_rotated_are_masked() -> None:
    [text] = read(
        archive("s", {"a": "x first-value-1 second-value-2"}, {"api": "first-value-1\nsecond-value-2\n"})
    ).values()

    assert text == "x [masked: api] [masked: api (2)]"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://cpq:hunter2hunter2@db/cpq", "postgresql://cpq:[masked]@db/cpq"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: [masked] [masked]"),
        ("DB_PASSWORD=hunter2 next", "DB_PASSWORD=[masked] next"),
        ('"client_secret": "hunter2", "a": 1', '"client_secret": [masked], "a": 1'),
        ("x eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln y", "x [masked token] y"),
        ("SCRAM-SHA-256$4096:c2FsdA==$a2V5:c2lnbg==", "[masked verifier]"),
        (
            "a\n-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nb",
            "a\n[masked private key]\nb",
        ),
        # None of these is a value.
        ("secret_db: '{{ vault_db }}'", "secret_db: '{{ vault_db }}'"),
        ("client_secret: {{ secret_x }}", "client_secret: {{ secret_x }}"),
        ("DB_PASSWORD=/run/credentials/db-password", "DB_PASSWORD=/run/credentials/db-password"),
        ("password authentication failed for user cpq", "password authentication failed for user cpq"),
        ("http://10.0.0.1:8080/x", "http://10.0.0.1:8080/x"),
    ],
)
def test_what_looks_like_a_secret_is_masked_though_nobody_declared_it(text: str, masked: str) -> None:
    assert likely_masked(text) == masked


def test_a_report_is_masked_in_every_text() -> None:
    assert without_likely_secrets({"a": [{"b": "token=hunter2"}, 1, None, True]}) == {
        "a": [{"b": "token=[masked]"}, 1, None, True]
    }


def test_an_archive_is_the_same_for_the_same_files_and_for_its_owner_alone(tmp_path: Path) -> None:
    files = {"b": "2", "a": "1"}

    packed = archive("s", files, {})

    assert packed == archive("s", dict(sorted(files.items())), {})
    with tarfile.open(fileobj=io.BytesIO(packed)) as reader:
        assert [(one.name, one.mode, one.mtime, one.uid) for one in reader] == [
            ("s/a", 0o600, 0, 0),
            ("s/b", 0o600, 0, 0),
        ]
    path = kept(tmp_path, "20260101T000000Z", packed)
    assert path == tmp_path / "20260101T000000Z/support-20260101T000000Z.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_newest_five_are_kept_and_reports_stay(tmp_path: Path) -> None:
    for day in range(1, 8):
        kept(tmp_path, f"2026010{day}T000000Z", b"x")
        (tmp_path / f"2026010{day}T000000Z/report.html").touch()

    assert [path.parent.name[7] for path in sorted(tmp_path.glob("*/support-*"))] == ["3", "4", "5", "6", "7"]
    assert len(list(tmp_path.glob("*/report.html"))) == 7


def test_of_a_long_file_the_end_is_kept_and_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support_archive, "MOST_CHARACTERS", 10)
    # The value lies across the cut: half of it must not stay.
    [text] = read(archive("s", {"log": f"{'x' * 5}{CANARY}123456"}, {"api": CANARY})).values()
    assert text == "[14 characters before this were left out]\napi]123456"

    monkeypatch.setattr(support_archive, "MOST_BYTES", 5)
    with pytest.raises(ArchiveRefusedError, match="larger than 5 bytes at a"):
        archive("s", {"a": "123456"}, {})


def test_the_playbook_masks_what_hosts_gave_by_the_secrets_of_the_inventory(tmp_path: Path) -> None:
    """Its last play as it is; what the first one asks of hosts is given, since there are none."""
    names = yaml.safe_load((DIRECTORY / "secrets.yml").read_text())["secrets"]
    secrets = {f"secret_{name}": f"value-of-{name}-{number}-9Zx" for number, name in enumerate(names)}
    told = "".join(f"{name}: {value}\n" for name, value in secrets.items())
    host = {"support_bundle_collected": {"files": {"journal/api.log": told}}, "ansible_connection": "local"}
    given = {"cpq_state_dir": str(tmp_path / "state"), "ansible_python_interpreter": sys.executable, **secrets}
    inventory = tmp_path / "trial/hosts.yml"
    inventory.parent.mkdir()
    inventory.write_text(yaml.safe_dump({"all": {"vars": given, "hosts": {"one-1": host}}}))
    play = tmp_path / "play.yml"
    play.write_text(yaml.safe_dump(yaml.safe_load((ROOT / "playbooks/support_bundle.yml").read_text())[1:]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(play)]
    around = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

    done = subprocess.run(
        [*command, "-e", "support_bundle_run=20260101T000000Z"], cwd=ROOT, env=around, capture_output=True, text=True, check=False
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    run = "20260101T000000Z"
    files = read((tmp_path / f"state/releases/{run}/support-{run}.tar.gz").read_bytes())
    assert files[f"support-{run}/hosts/one-1/journal/api.log"] == "".join(
        f"secret_{name}: [masked: {name}]\n" for name in names
    )
    # The inventory itself has them in plain text.
    assert f"support-{run}/inventory/hosts.yml" in files
    assert not [value for value in secrets.values() for text in files.values() if value in text]
    assert not [value for value in secrets.values() if value in done.stdout]


def test_what_hosts_gave_and_which_gave_nothing() -> None:
    gone = {"unreachable": True, "msg": "no route to host"}
    hostvars = {"a": {"given": {"files": {"disk.txt": "full"}}}, "b": {"given": gone}, "c": {}}

    files = SUPPORT.of_hosts(["a", "b", "c"], hostvars, "given")

    assert files == {
        "hosts/a/disk.txt": "full",
        "hosts/b/not-collected.txt": "no route to host\n",
        "hosts/c/not-collected.txt": "it did not answer\n",
    }
    assert "gave nothing: b, c." in SUPPORT.about("r", files, ["a", "b", "c"])


def test_an_inventory_is_in_it_without_its_vault(tmp_path: Path) -> None:
    base, inventory = tmp_path / "base", tmp_path / "trial"
    for folder in (base, inventory / "group_vars/all"):
        folder.mkdir(parents=True)
    (base / "api.yml").write_text("a: 1\n")
    (inventory / "group_vars/api").symlink_to(base)
    (inventory / "hosts.yml").write_text("all: {}\n")
    (inventory / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (inventory / "group_vars/all/gone.yml").symlink_to(tmp_path / "nowhere")

    files = SUPPORT.of_inventories([str(inventory)])

    assert files == {
        "inventory/trial/hosts.yml": "all: {}\n",
        "inventory/trial/group_vars/api/api.yml": "a: 1\n",
        "inventory/trial/group_vars/all/vault.yml": "a vault: left out\n",
    }


def test_a_run_brings_its_report_its_plan_and_the_end_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"plan": {"text": "the plan"}}))
    record = tmp_path / "release-record.jsonl"
    record.write_text("".join(f"{number}\n" for number in range(300)))

    files = SUPPORT.of_run(tmp_path, record)

    assert files["plan.txt"] == "the plan"
    assert files["release-record.jsonl"].splitlines()[0] == "100"
    assert SUPPORT.of_run(tmp_path / "none", tmp_path / "none") == {}


def test_a_host_tells_journals_units_settings_and_what_it_does_not_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []

    def said(*command: str) -> str:
        asked.append(command)
        if command[-1] == "--property=Id":
            return "Id=cpq-oms-api.service\n\nId=cpq-oms-smoke.timer\n"
        return f"said by {command[0]}\n" + ("half of a line\n" + "x" * 36 if command[0] == "journalctl" else "")

    monkeypatch.setattr(COLLECTING, "said", said)
    monkeypatch.setattr(COLLECTING, "SETTINGS", tmp_path)
    (tmp_path / "api.env").write_text("APP_ENV=ci\n")

    files = COLLECTING.collected(tmp_path, 30, 40)

    assert files["settings/api.env"] == "APP_ENV=ci\n"
    assert files["units/cpq-oms-smoke.timer"] == "said by systemctl\n"
    assert files["journal/cpq-oms-api.service.log"] == "[34 characters before this were left out]\n" + "x" * 36
    assert "journal/cpq-oms-smoke.timer.log" not in files
    [journal] = [command for command in asked if command[0] == "journalctl"]
    assert {"--since=-30min", "--unit=cpq-oms-api.service"} <= {*journal}
    assert {"nftables.txt", "disk.txt", "memory.txt", "status.txt", "packages.txt", "os-release.txt"} <= {*files}


def test_what_runs_on_each_host_is_read_from_an_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = "Id=cpq-oms-api.service\nActiveState=failed\n\nId=cpq-oms.target\nActiveState=active\n"
    monkeypatch.setattr(COLLECTING, "said", lambda *_: shown)
    current = tmp_path / "api/current"
    current.mkdir(parents=True)
    (current / "release.json").write_text(json.dumps({"release_id": "r-2"}))
    told = COLLECTING.running(tmp_path)
    path = kept(tmp_path, "20260101T000000Z", archive("s", {"hosts/api-1/running.json": json.dumps(told)}, {}))

    assert support_archive.running(path) == {"api-1": told}
    assert told["installed"] == {"api": "r-2"}
    assert told["services"]["cpq-oms-api.service"] == {"state": "failed"}


def test_a_program_that_a_host_does_not_have_is_an_answer() -> None:
    assert COLLECTING.said("no-such-program-here") == "no-such-program-here: not on this host\n"
