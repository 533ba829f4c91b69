"""Judges an inventory against inventories/schema.yml, and reports every problem at once, each with its file and the remedy.

As an action it judges evaluated values before the first host is touched. As a program (`inventory_preflight.py FOLDER`) it
judges the files alone, for the set-up and for tests: what an expression becomes is then left to the action.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
name: inventory_preflight
short_description: Judge the inventory against its schema
description: Looks at files and variables of the control machine only.
"""

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "inventories/schema.yml"
SECRETS = ROOT / "inventories/base/all/secrets.yml"
# What a schema says beside JSON Schema.
OWN_WORDS = frozenset({"file", "title", "optional"})
ALIKE = 0.75


class ActionModule(ActionBase):
    """Judges what was given as -i, with the values that hosts would see."""

    TRANSFERS_FILES = False
    _VALID_ARGS: frozenset[str] = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with all problems, one line each."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        problems: list[str] = []
        for source in task_vars["ansible_inventory_sources"]:
            folder = Path(source) if Path(source).is_dir() else Path(source).parent
            problems += judge(folder, self._evaluator(task_vars))
        if problems:
            return {"failed": True, "changed": False, "msg": "\n".join(problems)}
        return {"changed": False}

    def _evaluator(self, task_vars: Mapping[str, Any]) -> Callable[[str, Any], Any]:
        hostvars, groups = task_vars["hostvars"], task_vars["groups"]
        host = next(iter(groups["all"]), "localhost")
        # A variable that looks at other hosts needs hostvars, which hostvars[host] itself does not offer.
        known = {**hostvars.raw_get(host), "hostvars": hostvars, "groups": groups}
        templar = self._templar.copy_with_new_env(available_variables=known)
        return lambda name, value: templar.template(known.get(name, value))


def judge(
    inventory: Path, evaluate: Callable[[str, Any], Any] | None = None, *, whole: bool = True, schema: Path = SCHEMA
) -> list[str]:
    """Return what is wrong with an inventory.

    Args:
        inventory: its folder.
        evaluate: gives the value of a variable; without it expressions are not judged.
        whole: whether everything must be there that services and releases need, and not hosts alone.
        schema: what it is held to.
    """
    declared = _load(schema)
    names = {**declared["variables"], **{name: {"file": "secrets.yml", "type": "string"} for name in _secrets()}}
    files = list(_files(inventory))
    problems: list[str] = []
    contents: dict[Path, dict[str, Any]] = {}
    for path in files:
        try:
            contents[path] = _load(path) or {}
        except yaml.YAMLError as error:
            problems.append(f"{_shown(path)}: no YAML: {' '.join(str(error).split())}")
    # A trial has some of the tiers, and expressions that look at the hosts of others have no value there.
    if not any(_is_declared(variables.get("cpq_env"), declared["kinds"]) for variables in contents.values()):
        evaluate = None
    found: dict[str, Path] = {}
    meant: set[str] = set()
    roles = _role_options()
    of_groups = tuple(declared["group_variables"])
    for path, variables in contents.items():
        is_for_all = path.parent.name == "all"
        options = roles.get(path.stem, frozenset())
        for name, value in variables.items():
            found[name] = path
            if name in declared["removed"]:
                gone = declared["removed"][name]
                problems.append(f"{_shown(path)}: {name} is gone since release {gone['release']}; use {gone['use']}")
            elif is_for_all and name in names:
                problems += [
                    f"{_shown(path)}: {problem}" for problem in _value_problems(name, value, names[name], evaluate)
                ]
            # A role's own option: the role's argument specification judges its value.
            elif (
                name not in options
                and not (is_for_all and any(name in every for every in roles.values()))
                and not name.startswith(of_groups)
            ):
                candidates = names if is_for_all else {*options, *declared["group_variables"]}
                nearest = _nearest(name, candidates) or _nearest(
                    name, {*names, *(o for r in roles.values() for o in r)}
                )
                meant.add(nearest or "")
                problems.append(f"{_shown(path)}: {name} is unknown; {_remedy(nearest)}")
            problems += [
                f"{_shown(path)}: {name} uses {used}, which is unknown; {_remedy(_nearest(used, names))}"
                for used in _names_in(value)
                if used not in names and not used.startswith(of_groups)
            ]
    if whole:
        folder = _shown(inventory / "group_vars/all")
        problems += [
            f"{folder / entry['file']}: {name} is missing; {entry.get('title', 'a secret')}: add it"
            for name, entry in names.items()
            if name not in found and name not in meant and "optional" not in entry
        ]
        problems += _required_problems(inventory, {*found, *meant})
    return [*problems, *_host_problems(inventory, contents, declared["kinds"], whole=whole)]


def _is_declared(environment: Any, kinds: Mapping[str, Any]) -> bool:
    return any(environment in entry["environments"] for entry in kinds.values())


def _value_problems(
    name: str, value: Any, entry: Mapping[str, Any], evaluate: Callable[[str, Any], Any] | None
) -> Iterable[str]:
    """Hold a value to its schema. What holds a secret is not evaluated, and none of its parts shown."""
    if name.startswith("secret_") or "{{" in str(value):
        if evaluate is None or "secret_" in f"{name} {value}":
            return
        try:
            value = evaluate(name, value)
        except AnsibleError as error:
            yield f"{name} cannot be evaluated: {str(error).splitlines()[0]}"
            return
    plain = {key: part for key, part in entry.items() if key not in OWN_WORDS}
    for found in jsonschema.Draft202012Validator(plain).iter_errors(_plain(value)):
        place = "".join(f"[{part}]" for part in found.absolute_path)
        secret = "token" in name or "secret" in name
        shown = "" if secret else f"; found {found.instance!r}"
        yield f"{name}{place}: expected {_expected(found)}, {entry['title']}{shown}"


def _expected(error: jsonschema.ValidationError) -> str:
    limit = error.validator_value
    words = {"type": f"a value of type {limit}", "pattern": f"text like {limit}"}
    words |= {"enum": f"one of {limit}", "minProperties": f"at least {limit} entries"}
    return words.get(str(error.validator), f"{error.validator} {limit}")


def _plain(value: Any) -> Any:
    """Return the value without the marks of Ansible's own types, which JSON Schema does not take for strings and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, str) else value


def _host_problems(
    inventory: Path, contents: Mapping[Path, Mapping[str, Any]], kinds: Mapping[str, Any], *, whole: bool
) -> Iterable[str]:
    path = inventory / "hosts.yml"
    if not path.exists():
        yield f"{_shown(path)} is missing"
        return
    merged = {
        name: value for file, part in contents.items() if file.parent.name == "all" for name, value in part.items()
    }
    environment = str(merged.get("cpq_env", ""))
    kind = next((kind for kind, entry in kinds.items() if environment in entry["environments"]), "")
    wanted = kinds[kind or next(iter(kinds))]["hosts"]
    for folder in sorted(inventory.glob("group_vars/*")):
        if folder.name not in {"all", *wanted}:
            yield f"{_shown(folder)}: no group is named so; {_remedy(_nearest(folder.name, wanted))}"
    if not whole:
        return
    groups = _groups(_load(path))
    # An environment of no declared kind is a trial of some tiers; the release's own preflight asks for those that it needs.
    for group, minimum in wanted.items() if kind else ():
        hosts = groups.get(group, {})
        if len(hosts) < minimum:
            yield f"{_shown(path)}: group {group} has {len(hosts)} of at least {minimum} hosts ({environment}: {kind})"
    addresses = {host: str((variables or {}).get("ansible_host", "")) for host, variables in groups["all"].items()}
    yield from (f"{_shown(path)}: {problem}" for problem in _address_problems(addresses, str(merged.get("cpq_subnet"))))


def _groups(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the hosts of each group with their variables, those of its children among them."""
    found: dict[str, dict[str, Any]] = {}
    for name, group in content.items():
        hosts = found.setdefault(name, {})
        below = _groups((group or {}).get("children") or {})
        for part in [*below.values(), (group or {}).get("hosts") or {}]:
            hosts.update({host: variables or hosts.get(host) for host, variables in part.items()})
        found |= {child: own for child, own in below.items() if child not in found}
    return found


def _address_problems(addresses: Mapping[str, str], network: str) -> Iterable[str]:
    try:
        subnet = ipaddress.ip_network(network)
    except ValueError:
        # The schema names it.
        return
    for host, address in addresses.items():
        try:
            if ipaddress.ip_address(address) not in subnet:
                yield f"{host}: {address} is not in cpq_subnet, {subnet}"
        except ValueError:
            yield f"{host}: ansible_host is no address: {address or 'missing'}"
    for address, count in Counter(addresses.values()).items():
        if count > 1 and address:
            sharing = ", ".join(sorted(host for host, own in addresses.items() if own == address))
            yield f"{address} is the address of {sharing}"


def _required_problems(inventory: Path, found: set[str]) -> Iterable[str]:
    """Find what a role requires and neither the inventory nor a playbook gives it."""
    playbooks = "\n".join(
        path.read_text(encoding="utf-8") for path in [ROOT / "release.yml", *(ROOT / "playbooks").rglob("*.yml")]
    )
    passed = set(re.findall(r"^\s*(\w+):", playbooks, re.MULTILINE))
    for role, options in _argument_specs().items():
        # A role that no playbook applies cannot miss anything.
        if not re.search(rf"(?:role|name): {role}\b", playbooks):
            continue
        missing = {name for name, option in options.items() if option.get("required")} - found - passed
        for name in sorted(missing):
            nearest = _nearest(name, found)
            remedy = f"is {nearest} meant?" if nearest and nearest not in options else "set it in group_vars"
            yield f"{_shown(inventory)}: {name} is missing, which the role {role} requires; {remedy}"


def _files(inventory: Path) -> Iterable[Path]:
    # An inventory may share another's folders by links, which rglob does not follow.
    for folder, _, names in os.walk(inventory / "group_vars", followlinks=True):
        for name in sorted(names):
            path = Path(folder, name)
            # The vault is elsewhere, and nobody can look into it from here; vault_secrets judges it.
            if name.endswith(".yml") and name != "vault.yml" and path.exists():
                yield path


def _load(path: Path) -> Any:
    # The loader in C: role specifications are long, and every run of a playbook waits for them.
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


@functools.cache
def _argument_specs() -> dict[str, dict[str, Any]]:
    return {
        path.parents[1].name: {
            name: option or {}
            for entry in _load(path)["argument_specs"].values()
            for name, option in (entry.get("options") or {}).items()
        }
        for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))
    }


def _role_options() -> dict[str, frozenset[str]]:
    return {role: frozenset(options) for role, options in _argument_specs().items()}


def _secrets() -> list[str]:
    return list(_load(SECRETS))


def _names_in(value: Any) -> list[str]:
    """Find inventory variables inside {{ }}, leaving out quoted text such as a database role of the same prefix."""
    if isinstance(value, Mapping):
        return [name for part in value.values() for name in _names_in(part)]
    if isinstance(value, list):
        return [name for part in value for name in _names_in(part)]
    expressions = re.findall(r"\{\{(.*?)\}\}", str(value), re.DOTALL)
    bare = (re.sub(r"'[^']*'|\"[^\"]*\"", "", expression) for expression in expressions)
    return [name for expression in bare for name in re.findall(r"(?<![\w.])(?:cpq|secret)_\w+", expression)]


def _nearest(name: str, candidates: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=ALIKE)), None)


def _remedy(meant: str | None) -> str:
    return f"is {meant} meant?" if meant else "add it to inventories/schema.yml or correct the name"


def _shown(path: Path) -> Path:
    path = path.absolute()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


if __name__ == "__main__":
    lines = judge(Path(sys.argv[1]), whole="--hosts-alone" not in sys.argv)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.exit(1 if lines else 0)
