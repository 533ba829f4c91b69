#!/usr/bin/python
"""Ansible module: wait for a Redis server and make it use what lies on its disk: users, and certificate where it has one.

It speaks to the server itself, since redis-cli can show a password on its command line and a changed user could not be told from an
unchanged one by its output. Users are compared as the server has them, so a run that was killed between file and server loses nothing.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: redis_server
short_description: Wait for a Redis server and make it use the users and the certificate on its disk
options:
  address: {description: Where the server listens., type: str, required: true}
  port: {description: Its port., type: int, required: true}
  ca: {description: Roots of its certificate; empty for no TLS., type: str, default: ""}
  password: {description: Password of the user C(operator)., type: str, required: true}
  users: {description: The server's ACL file., type: path, default: /etc/redis/users.acl}
  reload_certificate: {description: Whether the server reads its certificate and the roots again; connections stay., type: bool, default: false}
  unit: {description: The server's unit. It is restarted when it does not know the operator's present password., type: str, required: true}
  refused: {description: Former passwords by user; one that still logs in is a failure., type: dict, default: {}}
  timeout: {description: Seconds until it must answer., type: int, default: 20}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
version: {description: Version of the running server., returned: success, type: str}
users: {description: Names of users that were changed in the server., returned: success, type: list}
"""

# What the server adds to each line by itself.
ADDED = frozenset(
    {"sanitize-payload", "resetchannels", "resetkeys", "resetpass", "nopass", "-@all", "on", "off", "(empty"}
)
CERTIFICATE = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")


class Refused(Exception):  # noqa: N818 - the server's own word for it
    """The server answered with an error."""


class Connection:
    """One connection of a user, the operator unless another is named."""

    def __init__(self, module: AnsibleModule, user: str = "operator", password: str | None = None) -> None:
        parameters = module.params
        plain = socket.create_connection((parameters["address"], parameters["port"]), timeout=5)
        if parameters["ca"]:
            context = ssl.create_default_context(cafile=parameters["ca"])
            plain = context.wrap_socket(plain, server_hostname=parameters["address"])
        self._socket = plain
        self._stream = plain.makefile("rb")
        self.ask("AUTH", user, password or parameters["password"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, *words: str) -> Any:
        """Return the answer to one command."""
        parts = [word.encode() for word in words]
        body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%s" % (len(parts), body))
        return self._answer()

    def _answer(self) -> Any:
        line = self._stream.readline().rstrip(b"\r\n").decode()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[0], line[1:]
        if kind == "-":
            raise Refused(rest)
        if kind == "$":
            return self._stream.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else ""
        if kind == "*":
            return [self._answer() for _ in range(int(rest))]
        return rest


def rules(text: str) -> dict[str, frozenset[str]]:
    """Return what each user of an ACL file or listing may, as words that do not depend on how it is written."""
    lines = [line.split() for line in text.splitlines() if line.startswith("user ")]
    return {words[1]: frozenset(words[2:]) - ADDED for words in lines}


def connected(module: AnsibleModule) -> Connection:
    """Return a connection as soon as there is one; a server that does not know the password is restarted once."""
    deadline, restarted = time.monotonic() + module.params["timeout"], False
    while True:
        try:
            return Connection(module)
        except Refused as error:
            if restarted or module.check_mode or not str(error).startswith("WRONGPASS"):
                module.fail_json(msg=f"the server refuses its operator: {error}")
            subprocess.run(["systemctl", "restart", module.params["unit"]], check=True, capture_output=True)
            restarted = True
        except OSError as error:
            if time.monotonic() > deadline:
                module.fail_json(msg=f"{module.params['address']}:{module.params['port']} does not answer: {error}")
            time.sleep(0.1)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Compare, take over, and judge."""
    declared = rules(Path(module.params["users"]).read_text(encoding="utf-8"))
    with connected(module) as server:
        differing = _differing(server, declared)
        if differing and not module.check_mode:
            server.ask("ACL", "LOAD")
            if left := _differing(server, declared):
                module.fail_json(
                    msg=f"the server does not take these users as {module.params['users']} declares them: {', '.join(left)}"
                )
        reload = module.params["reload_certificate"]
        if reload and not module.check_mode:
            found = server.ask("CONFIG", "GET", "tls-*")
            values = dict(zip(found[::2], found[1::2], strict=True))
            server.ask("CONFIG", "SET", *(word for name in CERTIFICATE for word in (name, values[name])))
        information = dict(line.split(":", 1) for line in server.ask("INFO", "server").splitlines() if ":" in line)
    if not module.check_mode and (
        alive := [name for name, old in module.params["refused"].items() if _takes(module, name, old)]
    ):
        module.fail_json(msg=f"the server still takes the former password of {', '.join(alive)}")
    return {"changed": bool(differing or reload), "users": differing, "version": information["redis_version"]}


def _takes(module: AnsibleModule, user: str, password: str) -> bool:
    try:
        with Connection(module, user, password):
            return True
    except Refused:
        return False


def _differing(server: Connection, declared: dict[str, frozenset[str]]) -> list[str]:
    live = rules("\n".join(server.ask("ACL", "LIST")))
    return sorted(name for name in {*declared, *live} if declared.get(name) != live.get(name))


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "ca": {"type": "str", "default": ""},
            "password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "path", "default": "/etc/redis/users.acl"},
            "reload_certificate": {"type": "bool", "default": False},
            "unit": {"type": "str", "required": True},
            "refused": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{' '.join(error.cmd)}: {error.stderr}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
