"""Ansible module: hold the kernel's packet filter and the file it is loaded from to a declared rule set.

What the rules mean is not guessed from their text: they are loaded in an empty network namespace, which also judges them, and
what the kernel then shows is compared with what it shows of the rules in force. So a rule that somebody put in by hand is
found, and the order of words is not.

New rules are on probation until they are kept: a timer of the host brings back the old ones, whatever becomes of its caller.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: firewall_ruleset
short_description: Hold the packet filter's table and its file to a declared rule set
options:
  content: {description: The rule set as nft reads it; it replaces the table C(inet cpq_oms)., type: str, required: true}
  patience: {description: Seconds until the old rules come back unless the new ones are kept., type: int, required: true}
  keep: {description: Keep the rules that are on probation., type: bool, default: false}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Put the rules in force
  firewall_ruleset:
    content: "{{ lookup('ansible.builtin.template', 'etc/nftables.conf.j2') }}"
    patience: 30
"""

RETURN = r"""
on_probation: {description: Whether the rules in force go away again unless they are kept., returned: success, type: bool}
"""

TABLE = ("inet", "cpq_oms")
FILE = Path("/etc/nftables.conf")
# On a file system that a restart empties, like the rules themselves.
OLD = Path("/run/cpq-oms-firewall/old.nft")
ROLLBACK = "cpq-oms-firewall-rollback"
SERVICE = "nftables.service"
REPLACE = f"add table {' '.join(TABLE)}\ndelete table {' '.join(TABLE)}\n"


class Firewall:
    """The table, its file and its service."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def meaning(self, content: str) -> Any:
        """Return what the kernel makes of a rule set, without touching the one in force; fail when it is none."""
        command = ["unshare", "--net", "sh", "-c", f"nft -f - && nft -j list table {' '.join(TABLE)}"]
        code, out, err = self._module.run_command(command, data=content)
        if code != 0:
            self._module.fail_json(msg=f"nft refuses the rules: {err.strip()}")
        return self._normal(out)

    def in_force(self) -> Any:
        """Return what the kernel holds to, or None without the table."""
        code, out, _ = self._module.run_command(["nft", "-j", "list", "table", *TABLE])
        return self._normal(out) if code == 0 else None

    def is_loaded_at_start(self) -> bool:
        """Tell whether the rules come back with the host."""
        code, _, _ = self._module.run_command(["systemctl", "is-enabled", "--quiet", SERVICE])
        return bool(code == 0)

    def is_on_probation(self) -> bool:
        """Tell whether a rollback is due, of this run or of one that was killed."""
        code, _, _ = self._module.run_command(["systemctl", "is-active", "--quiet", f"{ROLLBACK}.timer"])
        return bool(code == 0)

    def load(self, content: str, patience: int) -> None:
        """Replace the rules, with the way back prepared first."""
        if self.is_on_probation():
            self._run("systemctl", "stop", f"{ROLLBACK}.timer")
        else:
            code, out, _ = self._module.run_command(["nft", "list", "table", *TABLE])
            OLD.parent.mkdir(mode=0o700, exist_ok=True)
            OLD.write_text(REPLACE + (out if code == 0 else ""), encoding="utf-8")
        self._run(
            "systemd-run", "--quiet", f"--unit={ROLLBACK}", f"--on-active={patience}", "--timer-property=AccuracySec=100ms",
            "nft", "-f", str(OLD),
        )  # fmt: skip
        self._run("nft", "-f", "-", data=content)

    def keep(self, content: str) -> None:
        """Make the rules in force those of every start."""
        self._run("systemctl", "stop", f"{ROLLBACK}.timer")
        new = FILE.with_name(f".{FILE.name}.new")
        new.write_text(content, encoding="utf-8")
        new.chmod(0o644)
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        new.rename(FILE)
        if not self.is_loaded_at_start():
            self._run("systemctl", "enable", "--quiet", SERVICE)

    def _normal(self, listing: str) -> Any:
        """Drop what says nothing about the rules."""
        entries = [entry for entry in json.loads(listing)["nftables"] if "metainfo" not in entry]
        for entry in entries:
            for body in entry.values():
                body.pop("handle", None)
        return entries

    def _run(self, *command: str, data: str | None = None) -> None:
        self._module.run_command(list(command), check_rc=True, data=data)


def main() -> None:
    """Compare, and load or keep."""
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str", "required": True},
            "patience": {"type": "int", "required": True},
            "keep": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    content = module.params["content"]
    firewall = Firewall(module)
    before = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    result: dict[str, Any] = {
        "diff": {"before_header": str(FILE), "after_header": str(FILE), "before": before, "after": content}
    }
    if module.check_mode and not module.get_bin_path("nft"):
        module.exit_json(changed=True, on_probation=False, **result)
    wanted, found = firewall.meaning(content), firewall.in_force()
    if module.params["keep"]:
        if found != wanted:
            module.fail_json(msg="the new rules are not in force any more: they were kept too late")
        firewall.keep(content)
        module.exit_json(changed=True, on_probation=False, **result)
    is_different = found != wanted
    is_pending = not is_different and firewall.is_on_probation()
    is_unkept = before != content or not firewall.is_loaded_at_start()
    if is_different and before == content:
        result["diff"] = {"before": f"{json.dumps(found, indent=1)}\n", "after": f"{json.dumps(wanted, indent=1)}\n"}
    if module.check_mode or not (is_different or is_pending or is_unkept):
        module.exit_json(changed=is_different or is_pending or is_unkept, on_probation=False, **result)
    if is_different:
        firewall.load(content, module.params["patience"])
    elif not is_pending:
        firewall.keep(content)
    module.exit_json(changed=True, on_probation=is_different or is_pending, **result)


if __name__ == "__main__":
    main()
