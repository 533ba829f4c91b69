"""Keeps where the rotation of a secret stands, and gives the secret its value in each step.

The value that an inventory's `secret_<name>` has is the rotation's state: one line, or two while it is under way, so whatever playbook runs in
between brings servers and clients to values that fit each other. Beside it lies what the rotation needs to go on: former and new value, and the
steps that are done. All of it is in the environment's vault or, where secrets are generated, in the folder of these.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from app.contracts.loader import Secret, SecretKind, load_secrets
from playbooks.action_plugins.vault_secrets import ALPHABET, LENGTH, opened, replace
from playbooks.module_utils import secret_access_log

DOCUMENTATION = r"""
name: secret_rotation
short_description: Judge, write, tell, note or end the rotation of a secret
options:
  state:
    description: >-
      V(begun) judges the request, makes the new value, or finds where an interrupted rotation stands, and returns its C(steps). V(written) gives the
      secret its value of a step. V(told) returns that C(value), and V(remembered) the C(former) and the C(new) one: do not log them. V(noted) notes the
      step as done. V(ended) forgets both.
    choices: [begun, written, told, noted, remembered, ended]
    required: true
  secret: {description: Its name in app/contracts/secrets.yml.}
  step: {description: Number of the step, from 1.}
  new_value_file: {description: File with the new value, for secrets that others make; empty for a generated one.}
  told_elsewhere: {description: Whether whoever signs by it outside the platform has the new value.}
  store: {description: Folder of generated secrets of the environment., required: true}
  vault: {description: The environment's vault., required: true}
  password_file: {description: The password of all vaults of this machine., required: true}
"""

LEAST = 16
# As many steps as playbooks/rotate_secret.yml has room for.
MOST_STEPS = 4
ALLOWED = re.compile(rf"[A-Za-z0-9._~+/=-]{{{LEAST},4096}}")
# What check mode takes for the new value that a real run would make.
PLACEHOLDER = "x" * LENGTH
# Which hosts take part, by what applies a value to them.
GROUPS = {
    "postgresql": ("db",),
    "postgresql_cluster": ("db",),
    "redis": ("redis",),
    "kafka": ("kafka",),
    "kafka_cluster": ("kafka",),
    "zeebe": ("zeebe",),
    "exporters": ("db", "redis"),
}


class Vault:
    """Secrets of an environment in its vault."""

    def __init__(self, path: Path, password: Path) -> None:
        # An inventory leads to it by a link, which must stay one.
        self._path = path.resolve()
        try:
            self._library = opened(password)
            self._content = dict(yaml.safe_load(self._library.decrypt(self._path.read_bytes())) or {})
        except (OSError, AnsibleError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise AnsibleActionFail(f"{self._path} cannot be read with the password in {password}: {reason}") from None

    def value(self, name: str) -> str:
        """Return a secret's value, empty where it has none."""
        return str(self._content.get(f"vault_{name}", ""))

    def rotation(self) -> dict[str, Any]:
        """Return what a rotation under way left, or nothing."""
        return dict(self._content.get("vault_rotation") or {})

    def write(self, name: str, value: str | None, rotation: Mapping[str, Any] | None) -> None:
        """Replace value and rotation in one step."""
        changes = {} if value is None else {f"vault_{name}": value}
        kept = {key: old for key, old in self._content.items() if key != "vault_rotation"}
        content = kept | changes | ({"vault_rotation": dict(rotation)} if rotation else {})
        replace(self._path, self._library.encrypt(yaml.safe_dump(dict(sorted(content.items())))))


class Folder:
    """Generated secrets of an environment, a file for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Kept and removed with them.
        self._rotation = path / "rotation.json"

    def value(self, name: str) -> str:
        """Return a secret's value, empty where it has none."""
        path = self._path / name
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def rotation(self) -> dict[str, Any]:
        """Return what a rotation under way left, or nothing."""
        if not self._rotation.exists():
            return {}
        found: dict[str, Any] = json.loads(self._rotation.read_text(encoding="utf-8"))
        return found

    def write(self, name: str, value: str | None, rotation: Mapping[str, Any] | None) -> None:
        """Replace the rotation, then the value: a run that is killed between them writes the value again."""
        if rotation:
            replace(self._rotation, json.dumps(rotation).encode())
        if value is not None:
            replace(self._path / name, value.encode() + b"\n")
        if not rotation:
            self._rotation.unlink(missing_ok=True)


class ActionModule(ActionBase):
    """Works on the control machine only."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        {"state", "secret", "step", "new_value_file", "told_elsewhere", "store", "vault", "password_file"}
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what the state says."""
        super().run(tmp, task_vars)
        return Rotation(self._task.args, task_vars or {}, is_check=self._task.check_mode).run()


class Rotation:
    """One request.

    Args:
        args: the options.
        variables: those of the host, of which `secret_<name>` is not evaluated.
        is_check: whether nothing may change.
    """

    def __init__(self, args: Mapping[str, Any], variables: Mapping[str, Any], *, is_check: bool) -> None:
        self._args, self._variables, self._is_check = args, variables, is_check

    def run(self) -> dict[str, Any]:
        """Return the task's result.

        Raises:
            AnsibleActionFail: it cannot be; nothing has changed.
        """
        args = self._args
        name = str(args.get("secret") or "")
        declared = load_secrets()
        if name not in declared.secrets:
            problem = f"{name} is no secret" if name else "no secret is named"
            raise AnsibleActionFail(
                f"{problem}; say -e secret=<name> with one of {', '.join(sorted(declared.secrets))}"
            )
        secret = declared.secrets[name]
        kind = declared.kinds[secret.kind]
        # The vault's own name for it, which nobody gives another value: a host that was told one has that for the inventory's.
        is_in_vault = f"vault_{name}" in self._variables
        store = Vault(Path(args["vault"]), Path(args["password_file"])) if is_in_vault else Folder(Path(args["store"]))
        step = int(args.get("step") or 0)
        if args["state"] == "begun":
            return self._begin(name, secret, kind, store)
        rotation = store.rotation()
        if self._is_check and rotation.get("secret") != name:
            rotation = {"secret": name, "former": store.value(name), "new": PLACEHOLDER, "done": 0}
        if args["state"] == "told":
            return {"changed": False, "value": _value(kind, step, rotation)}
        if args["state"] == "remembered":
            return {"changed": False, "former": rotation["former"], "new": rotation["new"]}
        if self._is_check:
            return {"changed": True}
        if args["state"] == "written":
            self._write(name, kind, store)
        elif args["state"] == "noted":
            self._record(f"finished step {step} of {len(kind.steps)} of the rotation of", name)
            store.write(name, None, rotation | {"done": step})
        else:
            self._record("ended the rotation of", name)
            store.write(name, None, None)
        return {"changed": True}

    def _begin(self, name: str, secret: Secret, kind: SecretKind, store: Vault | Folder) -> dict[str, Any]:
        if not kind.steps:
            raise AnsibleActionFail(f"{name} is not rotated by this playbook: {kind.why_not}")
        under_way = store.rotation()
        if under_way and under_way["secret"] != name:
            raise AnsibleActionFail(
                f"the rotation of {under_way['secret']} is under way, with {under_way['done']} steps done; end it by the same command with "
                f"-e secret={under_way['secret']}"
            )
        if not under_way:
            former = store.value(name)
            if not former or "\n" in former:
                raise AnsibleActionFail(
                    f"{name} has no value of one line that could be rotated; playbooks/secrets.yml makes missing ones"
                )
            new = self._new_value(name, kind, former)
            if not self._is_check:
                self._record("began the rotation of", name)
                store.write(name, None, {"secret": name, "former": former, "new": new, "done": 0})
        done = int(under_way.get("done", 0))
        holders = _holders(secret, kind, self._variables.get("groups") or {})
        steps: list[dict[str, Any]] = [
            {"due": number > done, "services": holders[step.apply][0], "units": holders[step.apply][1]}
            for number, step in enumerate(kind.steps, start=1)
        ]
        steps += [{"due": False, "services": {}, "units": {}}] * (MOST_STEPS - len(steps))
        for step in steps:
            for part in ("services", "units"):
                hosts = {host for found in step[part].values() for host in found} if step["due"] else set()
                step[f"hosts_of_{part}"] = sorted(hosts)
        return {
            "changed": False,
            "account": secret.account,
            "proof": kind.proof,
            "resumed": bool(under_way),
            "last_step": len(kind.steps),
            "steps": steps,
            "msg": f"{name}: {done} of {len(kind.steps)} steps are done",
        }

    def _new_value(self, name: str, kind: SecretKind, former: str) -> str:
        path = str(self._args.get("new_value_file") or "")
        if not path:
            if kind.given and not self._simulators():
                raise AnsibleActionFail(
                    f"{name} is made by somebody else here; say -e new_value_file=<file with the new value>"
                )
            return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        try:
            new = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AnsibleActionFail(f"new_value_file {path} cannot be read: {error}") from None
        if not ALLOWED.fullmatch(new) or new == former:
            raise AnsibleActionFail(
                f"new_value_file {path}: expected another value than now, one line of at least {LEAST} characters of {ALLOWED.pattern}"
            )
        return new

    def _write(self, name: str, kind: SecretKind, store: Vault | Folder) -> None:
        step, rotation = int(self._args["step"]), store.rotation()
        signs_outside = kind.proof == "callback_secret" and not self._simulators()
        tells = kind.steps[step - 1].apply == "clients"
        if signs_outside and tells and str(self._args.get("told_elsewhere")).lower() != "true":
            raise AnsibleActionFail(
                f"{name}: both values are taken now; give the new one to whoever signs by it (ansible-vault view {self._args['vault']}, second line), "
                "wait until they sign with it, and say this command again with -e told_elsewhere=true"
            )
        self._record(f"wrote step {step} of {len(kind.steps)} of the rotation of", name)
        store.write(name, _value(kind, step, rotation), rotation)

    def _simulators(self) -> list[str]:
        return list((self._variables.get("groups") or {}).get("simulator") or [])

    def _record(self, did: str, name: str) -> None:
        log = secret_access_log.beside(Path(self._args["password_file"]))
        try:
            secret_access_log.record(log, did, secret=name, environment=str(self._variables.get("cpq_env", "")))
        except OSError as error:
            raise AnsibleActionFail(
                f"{log} cannot be written: {error.strerror}; no secret is changed unrecorded"
            ) from None


def _value(kind: SecretKind, step: int, rotation: Mapping[str, Any]) -> str:
    return "\n".join(str(rotation[part]) for part in kind.steps[step - 1].value)


def _holders(
    secret: Secret, kind: SecretKind, groups: Mapping[str, Any]
) -> dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]]:
    """Return for servers and clients which services and units take a value, and on which hosts."""
    hosts = {
        service: sorted({host for group in names for host in groups.get(group, ())})
        for service, names in GROUPS.items()
    }
    units = {unit: sorted(groups.get(unit, ())) for unit in secret.units}
    return {
        "servers": (
            {service: hosts[service] for service in kind.servers if service in hosts},
            {unit: found for unit, found in units.items() if unit in kind.servers},
        ),
        "clients": (
            {service: hosts[service] for service in secret.services},
            {unit: found for unit, found in units.items() if unit not in kind.servers},
        ),
    }
