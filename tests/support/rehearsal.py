"""A rehearsal that is up: commands on its hosts and in its network, and hosts that lose their power and get it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bootstrap import Environment, find_environment
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMMAND_SECONDS = 1500
# What all hosts of a rehearsal on two cores take beside a playbook that acts on them.
ORDERS_A_SECOND = 0.5
# Customers who got no answer insist for a while, and then look for all of their orders.
CUSTOMERS_SECONDS = 300
UNIFIED = Path("/sys/fs/cgroup/unified")


@dataclass(frozen=True)
class Rehearsal:
    """All hosts of one environment, in a network of their own on this machine.

    Args:
        inventory_or_name: an inventory's name, or its folder, as ENV of make takes it.
    """

    inventory_or_name: str
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def _found(self) -> Environment:
        return find_environment(self.inventory_or_name)

    @property
    def environment(self) -> str:
        """Its name."""
        return self._found.name

    @property
    def inside(self) -> tuple[str, ...]:
        """What goes before a command that is to see the hosts and nothing else."""
        return self._found.inside

    @property
    def state(self) -> Path:
        """The folder of its hosts."""
        return self._found.state

    @cached_property
    def inventory(self) -> dict[str, Any]:
        """The inventory as Ansible reads it."""
        found: dict[str, Any] = yaml.safe_load((self._found.inventory / "hosts.yml").read_text())["all"]
        return found

    @cached_property
    def hosts(self) -> dict[str, str]:
        """The address of each host by name."""
        return {name: variables["ansible_host"] for name, variables in self.inventory["hosts"].items()}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The hosts of each tier."""
        return {tier: list(group["hosts"] or {}) for tier, group in self.inventory["children"].items()}

    @cached_property
    def variables(self) -> dict[str, Any]:
        """What the inventory says for the first admin host, templates evaluated where they need no vault."""
        text = (self._found.inventory / "group_vars/all/environment.yml").read_text()
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    def in_namespace(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        standard_input: str | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine where it sees the hosts."""
        path = f"{BIN}:{os.environ['PATH']}:/usr/sbin:/sbin"
        done = subprocess.run(
            [*self.inside, *command],
            cwd=ROOT,
            env={**self._found.ansible, **os.environ, "PATH": path},
            input=standard_input or "",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
        return done

    def run(
        self,
        host: str,
        command: str,
        *,
        check: bool = True,
        standard_input: str | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on a host as root."""
        ssh = ["ssh", "-F", str(self.state / "ssh_config"), host, command]
        return self.in_namespace(ssh, check=check, standard_input=standard_input, seconds=seconds)

    def play(self, playbook: str, *extra: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a playbook as an operator does: a path, or a name below playbooks/."""
        path = playbook if "/" in playbook or playbook.endswith(".yml") else f"playbooks/{playbook}.yml"
        return self.in_namespace(["ansible-playbook", "-i", str(self._found.inventory), path, *extra], check=check)

    def secret(self, name: str) -> str:
        """A generated secret, by its name in the vault or without the word before it; one that is rotated is read anew."""
        written = (self.owned / "vault.yml").stat().st_mtime_ns
        if self._known.get("written") != written:
            vault = f"@/etc/cpq-oms/{self.environment}/vault.yml"
            read = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "debug", "-e", vault]
            listed = self.in_namespace([*read, "-a", "var=vars"]).stdout
            self._known.update(json.loads(listed.partition("=>")[2])["vars"], written=written)
        return str(self._known[f"vault_{name.removeprefix('secret_').removeprefix('vault_')}"])

    def customer_settings(self) -> dict[str, Any]:
        """What a customer must know, as tests/rehearsal/customers.py takes it."""
        read = ["ansible", self.groups["admin"][0], "-i", str(self._found.inventory), "-m", "debug"]
        shown = "{{ {'api': smoke_api_url, 'issuer': cpq_issuer, 'secret': smoke_client_secret, 'tenant': smoke_tenant} | to_json }}"
        listed = self.in_namespace([*read, "-a", f"msg={shown}"]).stdout
        found = json.loads(listed.partition("=>")[2])["msg"]
        self.learn_roots()
        return {**(json.loads(found) if isinstance(found, str) else found), "authority": str(self.roots)}

    @property
    def owned(self) -> Path:
        """What a program inside sees as the environment's folder in /etc/cpq-oms."""
        return self.state / "control/cpq-oms" / self.environment

    @property
    def roots(self) -> Path:
        """The file with the roots that customers trust."""
        return self.owned / "trust.pem"

    def learn_roots(self) -> None:
        """Bring customers the roots that hosts trust now, as an operator does while these change."""
        newer = self.roots.with_suffix(".new")
        newer.write_text(self.run(self.groups["admin"][0], "cat /etc/cpq-oms/tls/ca.pem").stdout)
        newer.replace(self.roots)

    @contextmanager
    def customers(self, **how: float) -> Iterator[dict[str, Any]]:
        """Let customers order while the block runs; afterwards the yielded dict holds what they tell.

        Args:
            how: `rest`, or `rate` and `customers`, as tests/rehearsal/customers.py takes them. With none of them, what takes minutes leaves
                more orders than are completed soon.
        """
        told: dict[str, Any] = {}
        settings = json.dumps({**self.customer_settings(), **how})
        command = [*self.inside, sys.executable, "-m", "tests.rehearsal.customers", settings]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ordering\n"
            try:
                yield told
            finally:
                out, _ = process.communicate("", timeout=CUSTOMERS_SECONDS)
            told.update(json.loads(out))

    def kill(self, host: str) -> None:
        """Cut a host's power: every process of it ends at once, and its disk keeps what reached it."""
        (UNIFIED / f"cpq-{self.environment}-{host}" / "cgroup.kill").write_text("1")

    def start(self, *hosts: str) -> None:
        """Give hosts their power back and wait until they answer; without names every host that is off."""
        command = [sys.executable, "bootstrap.py", "hosts", "--env", self.inventory_or_name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        for host in hosts:
            self.until(lambda host=host: self.run(host, "true", check=False).returncode == 0, f"{host} answers")

    @staticmethod
    def until(condition: Callable[..., bool], claim: str, seconds: float = 60) -> None:
        """Return when the condition holds; fail with the claim when it does not in time."""
        until(condition, claim, seconds)
