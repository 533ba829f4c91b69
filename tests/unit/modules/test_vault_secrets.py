"""vault_secrets: an inventory's vault is complete, readable with one password only, and its values are shown nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).parents[3]
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - vault_secrets: {state: STATE, file: "{{ vault }}", password_file: "{{ password }}"}
"""


class Inventory:
    """An inventory with two secrets, and a vault and a password beside it that are not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault, self.password = folder.parent / "control/vault.yml", folder.parent / "control/password"
        variables = folder / "group_vars/all"
        variables.mkdir(parents=True)
        (folder / "hosts.yml").write_text("all: {hosts: {}}\n")
        for name in ("db", "cache"):
            (variables / f"{name}.yml").write_text(f'secret_{name}_password: "{{{{ vault_{name}_password }}}}"\n')
        (variables / "vault.yml").symlink_to(self.vault)

    def run(self, state: str, *words: str) -> tuple[int, str]:
        play = self.vault.parent.parent / "play.yml"
        play.write_text(PLAY.replace("STATE", state))
        given = ["-e", f"vault={self.vault}", "-e", f"password={self.password}"]
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder), str(play), *given, *words],
            cwd=ROOT,
            env=os.environ | ({"ANSIBLE_VAULT_PASSWORD_FILE": str(self.password)} if self.password.exists() else {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def values(self) -> dict[str, str]:
        library = VaultLib([("default", VaultSecret(self.password.read_bytes().strip()))])
        content: dict[str, str] = yaml.safe_load(library.decrypt(self.vault.read_bytes()))
        return content


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path / "inventory")


def test_a_vault_is_made_with_every_name_and_no_value_is_shown(inventory: Inventory) -> None:
    code, output = inventory.run("complete", "-vvv", "--diff")

    assert code == 0, output
    values = inventory.values()
    assert sorted(values) == ["vault_cache_password", "vault_db_password"]
    assert len(set(values.values())) == 2
    assert not [value for value in values.values() if value in output or len(value) < 40]
    assert inventory.password.read_text().strip() not in output
    assert {oct(path.stat().st_mode & 0o777) for path in (inventory.vault, inventory.password)} == {"0o600"}
    assert b"vault_" not in inventory.vault.read_bytes()


def test_what_the_vault_defines_stays_and_only_the_missing_name_is_added(inventory: Inventory) -> None:
    inventory.run("complete")
    values = inventory.values()
    (inventory.folder / "group_vars/all/mail.yml").write_text('secret_mail_token: "{{ vault_mail_token }}"\n')

    code, output = inventory.run("checked")
    assert code != 0
    assert f"{inventory.vault} does not define vault_mail_token" in output

    code, output = inventory.run("complete")
    assert code == 0, output
    assert {name: inventory.values()[name] for name in values} == values
    assert "vault_mail_token" in inventory.values()
    assert inventory.run("checked")[0] == 0


def test_a_vault_that_is_not_there_is_named_with_what_it_must_define(inventory: Inventory) -> None:
    code, output = inventory.run("checked")

    assert code != 0
    assert f"{inventory.vault} is missing; it defines vault_cache_password, vault_db_password" in output


def test_check_mode_writes_nothing(inventory: Inventory) -> None:
    code, output = inventory.run("complete", "--check")

    assert code == 0, output
    assert not inventory.vault.parent.exists()


def test_a_vault_of_another_password_is_refused_and_kept(inventory: Inventory) -> None:
    inventory.run("complete")
    sealed = inventory.vault.read_bytes()
    (inventory.folder / "group_vars/all/vault.yml").unlink()
    inventory.password.write_text("another\n")

    code, output = inventory.run("complete")

    assert code != 0
    assert f"{inventory.vault} cannot be read with the password in {inventory.password}" in output
    assert inventory.vault.read_bytes() == sealed
