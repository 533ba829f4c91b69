#!/usr/bin/python
"""Ansible module: bring one member of a Patroni cluster to a state, and give way only when the cluster stays whole.

Everything is asked of and said to the member's own interface. What would leave commits without a second copy is refused.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: patroni_member
short_description: Wait for, restart or promote a member of a Patroni cluster
description:
  - V(settled) waits until the member serves and, if all are there, one standby is synchronous; it holds the settings that members share to
    the declared ones.
  - V(restarted) restarts its server. A primary first hands over to its synchronous standby. With C(leader) only members are restarted that
    are (true) or are not (false) primary, so that callers restart the primary last.
  - V(primary) makes C(target) primary. It is refused when that member is not synchronous or lags.
options:
  url: {description: The member's interface., type: str, required: true}
  name: {description: The member's name., type: str, required: true}
  members: {description: How many there are., type: int, required: true}
  tls: {description: Certificate, key and ca of the interface., type: dict, default: {}}
  state: {description: What to reach., type: str, choices: [settled, restarted, primary], default: settled}
  configuration: {description: The declared shared settings., type: dict, default: {}}
  leader: {description: See above., type: bool, default: false}
  target: {description: The member that is to be primary., type: str}
  timeout: {description: Seconds., type: int, default: 60}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Make db-2 primary
  patroni_member: {url: "https://10.0.0.1:8008", name: db-1, members: 2, state: primary, target: db-2}
"""

RETURN = r"""
primary: {description: The primary in the end., type: str, returned: success}
deferred: {description: Whether nothing was done since the member is, or is not, primary., type: bool, returned: success}
seconds: {description: How long a switchover took., type: float, returned: on switchover}
"""

PAUSE_SECONDS = 0.5
MOST_LAG_BYTES = 1024 * 1024
RUNNING = {"running", "streaming"}


class PatroniError(Exception):
    """The cluster cannot be asked, or is not in a state in which the change is safe."""


class Patroni:
    """One member's interface."""

    def __init__(self, url: str, tls: Mapping[str, str]) -> None:
        self._url = url
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.create_default_context(cafile=tls["ca"])
            self._context.load_cert_chain(tls["certificate"], tls["key"])

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float = 10) -> str:
        """Return the answer's text.

        Raises:
            PatroniError: no answer, or a refusal with its reason.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310 the role's own URL
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=self._context) as answer:  # noqa: S310
                return str(answer.read().decode())
        except urllib.error.HTTPError as refusal:
            raise PatroniError(f"{method} {path}: {refusal.code} {refusal.read().decode().strip()[:200]}") from refusal
        except (OSError, urllib.error.URLError) as problem:
            raise PatroniError(f"{self._url}: {problem}") from problem

    def members(self) -> dict[str, dict[str, Any]]:
        """Return the cluster's members by name."""
        return {member["name"]: member for member in json.loads(self.request("GET", "/cluster"))["members"]}

    def configuration(self) -> dict[str, Any]:
        """Return the shared settings as this member sees them."""
        found: dict[str, Any] = json.loads(self.request("GET", "/config"))
        return found


def primary_of(members: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the name of the member that serves as primary, or nothing."""
    return next((name for name, one in members.items() if one["role"] == "leader" and one["state"] in RUNNING), "")


def synchronous(members: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the standbys without which no commit counts."""
    return [name for name, one in members.items() if one["role"] == "sync_standby" and one["state"] in RUNNING]


def is_settled(members: Mapping[str, Mapping[str, Any]], name: str, count: int) -> bool:
    """Whether the member serves and every commit has a second copy."""
    serves = name in members and members[name]["state"] in RUNNING
    return serves and bool(primary_of(members)) and (count == 1 or bool(synchronous(members)))


def refusal(members: Mapping[str, Mapping[str, Any]], target: str) -> str:
    """Say why a member must not become primary now, or nothing."""
    if target not in members:
        return f"{target} is no member; there are {', '.join(sorted(members))}"
    if target not in synchronous(members):
        return f"{target} is not synchronous ({members[target]['role']}, {members[target]['state']}): commits would be lost"
    lag = members[target].get("lag", 0)
    if not isinstance(lag, int) or lag > MOST_LAG_BYTES:
        return f"{target} lags by {lag} bytes, more than {MOST_LAG_BYTES}"
    return ""


def wait(ask: Callable[[], Any], seconds: float, claim: str) -> Any:
    """Return the first answer that counts as true.

    Raises:
        PatroniError: there is none in time; carries the last problem.
    """
    deadline = time.monotonic() + seconds
    while True:
        problem = claim
        try:
            if answer := ask():
                return answer
        except PatroniError as error:
            problem = f"{claim}: {error}"
        if time.monotonic() > deadline:
            raise PatroniError(f"not within {seconds:g} s: {problem}")
        time.sleep(PAUSE_SECONDS)


class Member:
    """What is done to one member."""

    def __init__(self, patroni: Patroni, name: str, count: int, seconds: float) -> None:
        self._patroni = patroni
        self._name = name
        self._count = count
        self._seconds = seconds

    def settle(self) -> dict[str, dict[str, Any]]:
        """Wait until the member serves and the cluster is whole, and return its members."""

        def ask() -> dict[str, dict[str, Any]] | None:
            members = self._patroni.members()
            return members if is_settled(members, self._name, self._count) else None

        found: dict[str, dict[str, Any]] = wait(
            ask, self._seconds, f"{self._name} serves, and a standby is synchronous"
        )
        return found

    def configure(self, declared: Mapping[str, Any], is_primary: bool) -> None:
        """Let the primary write what differs; every member waits until it sees it."""
        if is_primary:
            self._patroni.request("PATCH", "/config", declared)
        wait(
            lambda: not differing(declared, self._patroni.configuration()),
            self._seconds,
            "shared settings are in force",
        )

    def switch_over(self, members: Mapping[str, Mapping[str, Any]], target: str) -> float:
        """Make the target primary and return how long it took.

        Raises:
            PatroniError: commits could be lost, or Patroni refuses.
        """
        if reason := refusal(members, target):
            raise PatroniError(f"no switchover: {reason}")
        started = time.monotonic()
        self._patroni.request(
            "POST", "/switchover", {"leader": primary_of(members), "candidate": target}, self._seconds
        )
        wait(lambda: primary_of(self._patroni.members()) == target, self._seconds, f"{target} is primary")
        seconds = time.monotonic() - started
        self.settle()
        return seconds

    def give_way_and_restart(self, members: Mapping[str, Mapping[str, Any]]) -> str:
        """Restart the server, after its standby has taken over where it is primary; return the primary of then."""
        primary = primary_of(members)
        if self._name == primary and self._count > 1:
            primary = synchronous(members)[0]
            self.switch_over(members, primary)
        self._patroni.request("POST", "/restart", {}, self._seconds)
        self.settle()
        return primary


def differing(declared: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is declared and not so."""
    found: dict[str, Any] = {}
    for key, value in declared.items():
        if isinstance(value, Mapping):
            inner = present.get(key)
            if below := differing(value, inner if isinstance(inner, Mapping) else {}):
                found[key] = below
        elif present.get(key) != value:
            found[key] = value
    return found


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the member to the state."""
    parameters = module.params
    patroni = Patroni(parameters["url"], parameters["tls"])
    name, state = parameters["name"], parameters["state"]
    member = Member(patroni, name, parameters["members"], parameters["timeout"])
    if module.check_mode:
        try:
            members = patroni.members()
        except PatroniError:
            return {"changed": state != "settled", "deferred": False, "primary": ""}
    else:
        members = member.settle()
    primary = primary_of(members)
    if state == "settled":
        changes = differing(parameters["configuration"], patroni.configuration())
        if changes and not module.check_mode:
            member.configure(parameters["configuration"], name == primary)
        diff = {"before": "", "after": json.dumps(changes, indent=1, sort_keys=True) + "\n" if changes else ""}
        return {"changed": bool(changes) and name == primary, "primary": primary, "deferred": False, "diff": diff}
    if state == "restarted":
        if parameters["leader"] != (name == primary):
            return {"changed": False, "deferred": True, "primary": primary}
        if not module.check_mode:
            primary = member.give_way_and_restart(members)
        return {"changed": True, "deferred": False, "primary": primary}
    return promote(member, members, parameters["target"], module.check_mode)


def promote(member: Member, members: Mapping[str, Mapping[str, Any]], target: str, check: bool) -> dict[str, Any]:
    """Make the target primary, unless it is.

    Raises:
        PatroniError: commits could be lost.
    """
    if target == primary_of(members):
        return {"changed": False, "deferred": False, "primary": target}
    if reason := refusal(members, target):
        raise PatroniError(f"no switchover: {reason}")
    seconds = 0.0 if check else member.switch_over(members, target)
    return {"changed": True, "deferred": False, "primary": target, "seconds": round(seconds, 2)}


def main() -> None:
    """Bring the member to the state, or say why not."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "members": {"type": "int", "required": True},
            "tls": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["settled", "restarted", "primary"], "default": "settled"},
            "configuration": {"type": "dict", "default": {}},
            "leader": {"type": "bool", "default": False},
            "target": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
        required_if=[("state", "primary", ["target"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PatroniError as problem:
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
