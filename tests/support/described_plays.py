"""Plays of a release as they are, on hosts that are only described: what they ask of the admin host and tell proxies, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Stands for the commands on the admin host: each is kept as it was asked, and answered as the test laid down, by the last of its fixed words.
ADMIN = """
import json, os
from pathlib import Path
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"commands", "by_release", "keep_going", "if_installed"})
    def run(self, tmp=None, task_vars=None):
        folder = Path(os.environ["DESCRIBED_FOLDER"])
        answers = json.loads((folder / "answers.json").read_text())
        found = {"changed": False, "results": []}
        for entry in self._task.args["commands"]:
            [words] = [entry[kind] for kind in ("read", "note") if kind in entry]
            kept = {"words": words, "input": entry.get("input"), "by": self._task.args.get("by_release", "")}
            with (folder / "asked.jsonl").open("a") as asked:
                asked.write(json.dumps(kept) + "\\n")
            if "read" in entry:
                [name] = [word for word in words[:3] if word in answers]
                found = answers[name + ("-former" if self._task.args.get("by_release") else "")]
            if found.get("failed"):
                break
        return found
"""
# Stands for a proxy: what it was told is kept.
PROXY = """
import json, os
from pathlib import Path
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        told = {**self._task.args, "by": task_vars["item"][0] if isinstance(task_vars["item"], list) else task_vars["item"]}
        with (Path(os.environ["DESCRIBED_FOLDER"]) / "proxy.jsonl").open("a") as kept:
            kept.write(json.dumps(told) + "\\n")
        return {"changed": True}
"""


class DescribedPlays:
    """Runs plays in a folder of its own, and keeps what they asked for.

    Args:
        folder: where everything is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(
        self,
        plays: Sequence[Mapping[str, Any]],
        groups: Mapping[str, Mapping[str, Mapping[str, Any]]],
        answers: Mapping[str, Mapping[str, Any]],
        **variables: Any,
    ) -> tuple[int, str]:
        """Run plays on hosts that are nowhere; exit status and output.

        Args:
            plays: as in a playbook of playbooks/.
            groups: variables by host and group.
            answers: what the admin host's command gives, by its last fixed word.
            variables: what every host and play knows.
        """
        plugins, release = self._folder / "action_plugins", self._folder / "release"
        plugins.mkdir(exist_ok=True)
        release.mkdir(exist_ok=True)
        (plugins / "cpq_admin.py").write_text(ADMIN)
        for name in ("haproxy_server", "haproxy_colour"):
            (plugins / f"{name}.py").write_text(PROXY)
        for name in ("vars.yml", "canary.yml"):
            (release / name).write_text((ROOT / "playbooks/release" / name).read_text())
        (release / "failed.yml").write_text(
            '[{"ansible.builtin.fail": {"msg": "ended: {{ ansible_failed_result.msg }}"}}]'
        )
        inventory = {
            "all": {
                "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
                "children": {group: {"hosts": dict(hosts)} for group, hosts in groups.items()},
            }
        }
        files = {"hosts.yml": inventory, "play.yml": [*plays], "known.yml": variables}
        for name, content in files.items():
            (self._folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
        (self._folder / "answers.json").write_text(json.dumps(answers))
        inventory_file, playbook, known = (str(self._folder / name) for name in files)
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                *("-i", inventory_file, playbook, "-e", f"@{known}"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_ACTION_PLUGINS": str(plugins),
                "DESCRIBED_FOLDER": str(self._folder),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The commands that were asked for."""
        return self._lines("asked.jsonl")

    @property
    def told(self) -> list[dict[str, Any]]:
        """What proxies were told, each by the host that has it."""
        return self._lines("proxy.jsonl")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self._folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def play_of_release(beginning: str) -> dict[str, Any]:
    """The one play of release.yml whose name begins so."""
    plays: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
    [found] = [play for play in plays if play["name"].startswith(beginning)]
    return found
