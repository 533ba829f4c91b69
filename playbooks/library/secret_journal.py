"""Ansible module: read from a host's journal where and when secrets were written and removed."""

from __future__ import annotations

import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.secret_record import IDENTIFIER

DOCUMENTATION = r"""
module: secret_journal
short_description: Read from a host's journal where and when secrets were written and removed
options: {}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
msg: {description: One line for each change, oldest first., returned: success, type: list}
"""


def main() -> None:
    """Ask the journal."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    command = ["journalctl", f"--identifier={IDENTIFIER}", "--output=json", "--no-pager"]
    _, out, _ = module.run_command(command, check_rc=True)
    lines = []
    for entry in map(json.loads, out.splitlines()):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000))
        lines.append(f"{at} {entry['MESSAGE']}")
    module.exit_json(changed=False, msg=lines)


if __name__ == "__main__":
    main()
