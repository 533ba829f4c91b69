"""Ansible module: take a server out of a proxy's rotation until its last request is answered, or give it back when it is healthy.

It speaks to the proxy's runtime socket, so nothing is written and a proxy that starts anew has all its servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.proxy_socket import PATH, ask, drained, figures

DOCUMENTATION = r"""
module: haproxy_server
short_description: Drain a server of HAProxy, or give it back
description:
  - Runs on the proxy's host. A server that the proxy does not know is an error.
  - Backends named after the backend and a hyphen are parts of it, whose servers follow its own (roles/edge); what they have of the server's requests counts.
options:
  backend: {description: The backend that has the server., type: str, required: true}
  server: {description: Its name there., type: str, required: true}
  state:
    description: >-
      V(drained) waits until another server of the backend, where it has others, takes requests, sends no new request to this one and waits for its
      last one; it is refused while this one is the last that takes any. V(ready) waits until the proxy finds it healthy and gives it
      its share again; V(returned) gives it its share again without waiting.
    type: str
    choices: [drained, ready, returned]
    required: true
  socket: {description: The proxy's runtime socket., type: path, default: /run/haproxy/admin.sock}
  timeout: {description: Seconds to wait for the last request or for health., type: int, default: 30}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Send the host no new request
  haproxy_server: {backend: api, server: api-1, state: drained}
"""

RETURN = r"""
waited: {description: Seconds until it was so., returned: success, type: float}
unanswered: {description: Requests that were still with the server when the time was up., returned: state is drained, type: int}
"""

PAUSE_SECONDS = 0.1
_Answer = TypeVar("_Answer")


class Proxy:
    """One server of a backend behind the proxy's runtime socket."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._path = module.params["socket"]
        self._backend = module.params["backend"]
        self._name = module.params["server"]

    def ask(self, question: Callable[..., _Answer], *words: str) -> _Answer:
        """Put a question to the proxy, and fail when nobody answers."""
        try:
            return question(*words, path=self._path)
        except OSError as error:
            self._module.fail_json(msg=f"the proxy does not answer at {self._path}: {error}")
            raise AssertionError from None

    def servers(self) -> dict[str, dict[str, str]]:
        """Return the figures of the backend's servers by name."""
        return {row["svname"]: row for row in self.ask(figures) if row["pxname"] == self._backend}

    def server(self) -> dict[str, str]:
        """Return the figures of the server."""
        servers = self.servers()
        if self._name not in servers:
            self._module.fail_json(
                msg=f"the proxy knows no server {self._backend}/{self._name}; bring the edge up to date (playbooks/edge.yml)"
            )
        return servers[self._name]

    def unanswered(self) -> int:
        """Count the requests that are with the server or wait for it, also by a part of the backend that has the same servers."""
        return sum(
            int(row["scur"]) + int(row["qcur"])
            for row in self.ask(figures)
            if row["svname"] == self._name
            and (row["pxname"] == self._backend or row["pxname"].startswith(f"{self._backend}-"))
        )

    def is_drained(self) -> bool:
        """Tell whether it was told to drain, whether it is up or not."""
        return (self._backend, self._name) in self.ask(drained)

    def is_last(self) -> bool:
        """Tell whether the server takes requests and none of the backend's others does."""
        servers = self.servers()
        return len(servers) > 1 and [name for name, row in servers.items() if row["status"].startswith("UP")] == [
            self._name
        ]

    def set_state(self, state: str) -> None:
        """Change the server's administrative state."""
        if answer := self.ask(ask, f"set server {self._backend}/{self._name} state {state}").strip():
            self._module.fail_json(msg=f"{self._backend}/{self._name}: {answer}")


def main() -> None:
    """Change what must be changed and wait."""
    module = AnsibleModule(
        argument_spec={
            "backend": {"type": "str", "required": True},
            "server": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "ready", "returned"], "required": True},
            "socket": {"type": "path", "default": PATH},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    proxy = Proxy(module)
    proxy.server()
    is_drained = proxy.is_drained()
    is_to_drain = module.params["state"] == "drained"
    result: dict[str, Any] = {"changed": is_drained != is_to_drain}
    if module.check_mode:
        module.exit_json(waited=0.0, **result)
    began = time.monotonic()
    if is_to_drain and not is_drained:
        while proxy.is_last():
            if time.monotonic() - began > module.params["timeout"]:
                module.fail_json(
                    msg=f"{module.params['server']} is the last server of {module.params['backend']} that takes requests: it may not be drained "
                    "before another one is healthy"
                )
            time.sleep(PAUSE_SECONDS)
        proxy.set_state("drain")
    while True:
        server = proxy.server()
        waited = round(time.monotonic() - began, 1)
        unanswered = proxy.unanswered()
        # Checks go on while it is drained; a finished one has no asterisk before its verdict.
        is_healthy = server["check_status"].startswith("L7OK")
        if unanswered == 0 if is_to_drain else is_healthy or module.params["state"] == "returned":
            break
        if waited > module.params["timeout"]:
            if is_to_drain:
                break
            module.fail_json(
                msg=f"{server['svname']} is not healthy as {server['pxname']} after {waited} s: {server['check_status']} {server['last_chk']}"
            )
        time.sleep(PAUSE_SECONDS)
    if not is_to_drain and is_drained:
        proxy.set_state("ready")
    module.exit_json(waited=waited, **({"unanswered": unanswered} if is_to_drain else {}), **result)


if __name__ == "__main__":
    main()
