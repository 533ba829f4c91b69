"""Ansible module: have a proxy send every request of the API to the servers of one colour, at once.

What is under way is answered by who has it. The choice is in memory, and in a file that a proxy reads when it starts.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.proxy_socket import COLOURS, PATH, SERVING, choose, figures, serving

DOCUMENTATION = r"""
module: haproxy_colour
short_description: Choose which colour of the API's servers gets its requests
description:
  - Runs on the proxy's host. A proxy that knows no colours is an error.
  - It is refused unless every server of that colour takes requests; where it is chosen already nothing is asked.
options:
  colour: {description: Whose servers are to serve., type: str, choices: [blue, green], required: true}
  file: {description: Where the choice is kept., type: path, default: /etc/haproxy/colours.map}
  socket: {description: The proxy's runtime socket., type: path, default: /run/haproxy/admin.sock}
  timeout: {description: Seconds to wait for the health of its servers., type: int, default: 30}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Send every request to the green servers
  haproxy_colour: {colour: green}
"""

RETURN = r"""
former: {description: Which colour was served before., returned: success, type: str}
"""

PAUSE_SECONDS = 0.2


def absent(colour: str, path: str) -> list[str]:
    """Name the servers of a colour that take no requests, each with its state."""
    return [
        f"{row['svname']} ({row['status']})"
        for row in figures(path)
        if row["pxname"] == f"api-{colour}" and not row["status"].startswith("UP")
    ]


def keep(colour: str, file: Path) -> None:
    """Write the choice down, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as written:
        written.write(f"{SERVING} {colour}\n")
        os.fchmod(handle, 0o644)
        written.flush()
        os.fsync(handle)
    Path(name).replace(file)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "colour": {"type": "str", "choices": ["blue", "green"], "required": True},
            "file": {"type": "path", "default": COLOURS},
            "socket": {"type": "path", "default": PATH},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    colour, path, file = module.params["colour"], module.params["socket"], module.params["file"]
    try:
        former = serving(path, file)
        if not former:
            module.fail_json(msg="the proxy knows no colours; bring the edge up to date (playbooks/edge.yml)")
        if former != colour and not module.check_mode:
            deadline = time.monotonic() + module.params["timeout"]
            while servers := absent(colour, path):
                if time.monotonic() > deadline:
                    module.fail_json(msg=f"{colour} gets no requests: {', '.join(servers)} of it takes none")
                time.sleep(PAUSE_SECONDS)
            if said := choose(colour, file, path):
                module.fail_json(msg=f"{colour}: {said}")
            keep(colour, Path(file))
    except OSError as error:
        module.fail_json(msg=f"the proxy does not answer at {path}, or {file} cannot be written: {error}")
    module.exit_json(changed=former != colour, former=former)


if __name__ == "__main__":
    main()
