"""secret_rotation: what a secret's value is in each step, where a rotation stands after an interruption, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import VaultLib, VaultSecret

from app.contracts.loader import load_secrets
from playbooks.action_plugins.secret_rotation import MOST_STEPS, Rotation
from playbooks.filter_plugins.secrets import other_secrets, present_secret

ROOT = Path(__file__).parents[3]
FORMER = "formerValueOfTheTest"


class Environment:
    """Secrets of an environment in a vault or generated, and requests one after the other."""

    def __init__(self, folder: Path, *, in_vault: bool) -> None:
        self.folder, self.in_vault = folder, in_vault
        self.vault, self.password, self.store = folder / "vault.yml", folder / "password", folder / "secrets"
        names = ("db_api_password", "payment_callback_secret", "crm_token", "backup_passphrase")
        self.variables = {f"secret_{name}": f"{{{{ vault_{name} }}}}" if in_vault else "generated" for name in names}
        self.variables |= {"cpq_env": "scratch"} | ({f"vault_{name}": FORMER for name in names} if in_vault else {})
        self.groups = {"db": ["one", "two"], "api": ["three", "four"], "callback": ["four"], "kafka": ["one"]}
        self.store.mkdir()
        self.password.write_text("passwordOfTheTest\n")
        for name in names:
            (self.store / name).write_text(f"{FORMER}\n")
        self.library = VaultLib([("default", VaultSecret(b"passwordOfTheTest"))])
        self.vault.write_bytes(self.library.encrypt(yaml.safe_dump({f"vault_{name}": FORMER for name in names})))

    def ask(self, state: str, secret: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Make one request."""
        where = {"store": str(self.store), "vault": str(self.vault), "password_file": str(self.password)}
        args = {**where, "state": state, "secret": secret, **options}
        return Rotation(args, {**self.variables, "groups": self.groups}, is_check=check).run()

    def files(self) -> list[str]:
        """All that lies in the environment's folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def value(self, name: str) -> list[str]:
        """The lines of a secret."""
        if self.in_vault:
            return str(yaml.safe_load(self.library.decrypt(self.vault.read_bytes()))[f"vault_{name}"]).splitlines()
        return (self.store / name).read_text().splitlines()


@pytest.fixture(params=["vault", "generated"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    return Environment(tmp_path, in_vault=request.param == "vault")


def test_a_host_that_was_told_a_value_is_told_the_next_one_and_both(environment: Environment) -> None:
    """What a host is told takes the place of the inventory's variable there, for the rest of the run."""
    name = "db_api_password"
    environment.ask("begun", name)
    environment.variables[f"secret_{name}"] = environment.ask("told", name, step=1)["value"]

    assert environment.ask("told", name, step=3)["value"] != FORMER
    assert environment.ask("remembered", name)["former"] == FORMER


def test_a_rotation_is_interrupted_goes_on_and_ends(environment: Environment) -> None:
    name = "db_api_password"
    begun = environment.ask("begun", name)
    for state in ("written", "noted"):
        environment.ask(state, name, step=1)
    former, new = environment.value(name)
    assert (former, len(new)) == (FORMER, 40)
    assert [step["due"] for step in begun["steps"]] == [True, True, True, False]
    assert [step["hosts_of_units"] for step in begun["steps"]] == [["four", "three"], [], ["four", "three"], []]
    assert [step["hosts_of_services"] for step in begun["steps"]] == [[], ["one", "two"], [], []]

    environment.ask("written", name, step=2)
    again = environment.ask("begun", name)
    assert (again["resumed"], again["msg"]) == (True, "db_api_password: 1 of 3 steps are done")
    assert again["steps"][0]["hosts_of_units"] == []
    assert environment.value(name) == [new, former]
    assert environment.ask("told", name, step=2)["value"] == f"{new}\n{former}"
    remembered = environment.ask("remembered", name)
    assert (remembered["former"], remembered["new"]) == (FORMER, new)

    for state in ("written", "noted", "ended"):
        environment.ask(state, name, step=3)
    assert environment.value(name) == [new]
    assert environment.ask("begun", name)["resumed"] is False
    record = (environment.folder / "secret-access.jsonl").read_text()
    assert all(
        text in record for text in ("began the rotation of", "wrote step 3 of 3", "ended the rotation of", "scratch")
    )
    assert new not in record + str(begun) + str(again)


def test_check_mode_changes_nothing(environment: Environment) -> None:
    name, before, before_files = "db_api_password", environment.vault.read_bytes(), environment.files()
    environment.ask("begun", name, check=True)
    environment.ask("written", name, step=1, check=True)
    told = environment.ask("told", name, step=1, check=True)

    assert told["value"].startswith(f"{FORMER}\n")
    assert environment.value(name) == [FORMER]
    assert environment.vault.read_bytes() == before
    assert environment.files() == before_files


@pytest.mark.parametrize(
    ("secret", "options", "said"),
    [
        ("", {}, "no secret is named; say -e secret=<name> with one of backup_passphrase, "),
        ("db_app_password", {}, "db_app_password is no secret; say -e secret=<name> with one of "),
        (
            "backup_passphrase",
            {},
            "backup_passphrase is not rotated by this playbook: pgBackRest cannot encrypt a repository anew",
        ),
        ("crm_token", {}, "crm_token is made by somebody else here; say -e new_value_file=<file with the new value>"),
        ("crm_token", {"new_value_file": "/nowhere"}, "new_value_file /nowhere cannot be read"),
        ("db_worker_password", {}, "db_worker_password has no value of one line that could be rotated"),
    ],
)
def test_what_cannot_be_rotated_is_refused_in_one_line(
    environment: Environment, secret: str, options: dict[str, Any], said: str
) -> None:
    before, before_files = environment.vault.read_bytes(), environment.files()

    with pytest.raises(AnsibleActionFail) as refused:
        environment.ask("begun", secret, **options)

    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
    assert environment.vault.read_bytes() == before
    assert environment.files() == before_files


@pytest.mark.parametrize("content", ["short", FORMER, "two lines of\nsixteen characters", ""])
def test_a_given_value_is_one_line_and_another_one(environment: Environment, content: str) -> None:
    given = environment.folder / "secrets/given"
    given.write_text(content)

    with pytest.raises(AnsibleActionFail, match="expected another value than now, one line of at least 16 characters"):
        environment.ask("begun", "crm_token", new_value_file=str(given))

    given.write_text("givenValueOfTheTest\n")
    environment.ask("begun", "crm_token", new_value_file=str(given))
    environment.ask("written", "crm_token", step=1)
    assert environment.value("crm_token") == [FORMER, "givenValueOfTheTest"]


def test_a_second_rotation_and_a_signer_who_was_not_told_are_refused(environment: Environment) -> None:
    name = "payment_callback_secret"
    environment.ask("begun", name)
    for state in ("written", "noted"):
        environment.ask(state, name, step=1)

    with pytest.raises(
        AnsibleActionFail, match="the rotation of payment_callback_secret is under way, with 1 steps done"
    ):
        environment.ask("begun", "db_api_password")
    with pytest.raises(AnsibleActionFail, match="say this command again with -e told_elsewhere=true"):
        environment.ask("written", name, step=2)
    former_first = environment.value(name)
    assert former_first[0] == FORMER

    environment.ask("written", name, step=2, told_elsewhere=True)
    assert environment.value(name) == former_first[::-1]


def test_nothing_is_changed_unrecorded(environment: Environment) -> None:
    (environment.folder / "secret-access.jsonl").mkdir()

    with pytest.raises(AnsibleActionFail, match="no secret is changed unrecorded"):
        environment.ask("begun", "db_api_password")

    assert environment.ask("begun", "db_api_password", check=True)["resumed"] is False


def test_there_is_room_for_the_steps_of_every_kind() -> None:
    playbook = (ROOT / "playbooks/rotate_secret.yml").read_text()

    assert max(len(kind.steps) for kind in load_secrets().kinds.values()) == MOST_STEPS
    assert playbook.count("import_playbook: rotation/step.yml") == MOST_STEPS


def test_lines_of_values() -> None:
    values = {"still": "one", "rotated": "one\ntwo"}

    assert present_secret(values) == {"still": "one", "rotated": "one"}
    assert present_secret("one\ntwo") == "one"
    assert other_secrets(values) == {"rotated": "two"}
