"""A receipt speaks for a host only where nothing of what the roles left there differs, whatever it is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import LIBRARY, ModuleRun, load

for shared in ("host_identity", "host_planes"):
    sys.modules[f"ansible.module_utils.{shared}"] = load(shared, LIBRARY.parent / "module_utils")
RECEIPT = load("host_receipt")
INPUTS = "5f2a"


@dataclass
class Host:
    """A host in a folder, with what its own programs would say."""

    root: Path
    run: ModuleRun
    packages: dict[str, str] = field(default_factory=lambda: {"curl": "8.14.1-2"})
    filters: dict[str, str] = field(default_factory=lambda: {"table inet cpq_oms": "table inet cpq_oms { }"})
    kernel: dict[str, str] = field(default_factory=lambda: {"net.core.somaxconn": "4096"})
    units: dict[str, tuple[str, str]] = field(
        default_factory=lambda: {"kafka.service": ("active", "no"), "cpq-oms-api.service": ("active", "no")}
    )

    def __post_init__(self) -> None:
        for path, content in {
            "etc/kafka/server.properties": "node.id=1\n",
            "etc/sysctl.d/50.conf": "# ours\nnet.core.somaxconn = 4096\n",
            "etc/passwd": "root:x:0:0::/root:/bin/bash\nkafka:x:999:999::/var/lib/kafka:/usr/sbin/nologin\n",
            "etc/shadow": "root:*:1::::::\n",
            "etc/cpq-oms/api.env": "APP_ENV=staging\n",
            "opt/kafka/kafka.jar": "jar",
            "usr-local/bin/tool": "tool",
            "var-lib/kafka/meta.properties": "node.id=1\n",
        }.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        for unit in self.units:
            link = self.root / "etc/systemd/system/multi-user.target.wants" / unit
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/etc/systemd/system/{unit}")
        (self.root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")

    def systemctl(self, *words: str) -> str:
        asked = [word for word in words if word in self.units]
        return "\n\n".join(
            f"Id={name}\nActiveState={state}\nNeedDaemonReload={outdated}"
            for name, (state, outdated) in self.units.items()
            if name in asked
        )

    def ask(self, state: str, inputs: str = INPUTS, *, check: bool = False, **other: Any) -> dict[str, Any]:
        options: dict[str, Any] = {
            "state": state,
            "identity": {"environment": "staging", "host": "kafka-1", "tiers": ["kafka"]},
            "inputs": inputs,
            "sysctl_files": [str(self.root / "etc/sysctl.d/50.conf"), "/absent"],
            "leaves": ["*/cpq-oms/*.env", "account * cpq*", "unit cpq-oms*", "*.wants/cpq-oms*"],
        }
        return self.run({**options, **other}, check=check)

    def why(self, **other: Any) -> str:
        found = self.ask("compared", **other)
        assert found["settled"] is (not found["why"])
        assert found["changed"] is False
        return str(found["why"]).replace(f"{self.root}/", "")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    found = Host(tmp_path / "host", ModuleRun(RECEIPT, capsys, tmp_path))
    monkeypatch.setattr(RECEIPT, "RECEIPT", found.root / "etc/cpq-oms/receipt.json")
    monkeypatch.setattr(RECEIPT, "ETC", found.root / "etc")
    monkeypatch.setattr(RECEIPT, "ROOTS", [found.root / name for name in ("etc", "opt", "usr-local")])
    monkeypatch.setattr(RECEIPT, "FOLDERS", [found.root / "var-lib"])
    monkeypatch.setattr(RECEIPT, "UNIT_FILES", found.root / "etc/systemd/system")
    monkeypatch.setattr(RECEIPT, "run", found.systemctl)
    monkeypatch.setattr(RECEIPT, "packages", lambda: dict(found.packages))
    monkeypatch.setattr(RECEIPT, "nftables", lambda: dict(found.filters))
    monkeypatch.setattr(RECEIPT, "sysctl", lambda names, _: {name: found.kernel[name] for name in names})
    monkeypatch.setattr(RECEIPT, "problem", lambda _: "")
    return found


def test_a_host_that_nobody_touched_is_as_it_was_left(host: Host) -> None:
    assert host.why() == "no complete run has left a receipt"

    host.ask("kept")

    assert host.why() == ""
    assert (host.root / "etc/cpq-oms/receipt.json").stat().st_mode & 0o777 == 0o600


def write(path: str, content: str) -> Callable[[Host], object]:
    return lambda host: (host.root / path).write_text(content)


def append(path: str, line: str) -> Callable[[Host], object]:
    return lambda host: (host.root / path).write_text((host.root / path).read_text() + line)


def relink(host: Host) -> None:
    (host.root / "etc/localtime").unlink()
    (host.root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Oslo")


ALTERATIONS: Mapping[str, tuple[Callable[[Host], object], str]] = {
    "content": (write("etc/kafka/server.properties", "node.id=2\n"), "1 differ: etc/kafka/server.properties"),
    "mode": (lambda host: (host.root / "opt/kafka/kafka.jar").chmod(0o666), "1 differ: opt/kafka/kafka.jar"),
    "link": (relink, "1 differ: etc/localtime"),
    "another file": (write("usr-local/bin/other", ""), "1 differ: usr-local/bin/other"),
    "a file that is gone": (lambda host: (host.root / "usr-local/bin/tool").unlink(), "1 differ: usr-local/bin/tool"),
    "mode of a data folder": (lambda host: (host.root / "var-lib/kafka").chmod(0o777), "1 differ: var-lib/kafka"),
    "account": (write("etc/shadow", "root:$y$j9T$x:1::::::\n"), "1 differ: account shadow root"),
    "another account": (
        append("etc/passwd", "toor:x:0:0::/:/bin/sh\n"),
        "1 differ: account passwd toor",
    ),
    "package": (lambda host: host.packages.update(curl="8.14.1-3"), "1 differ: package curl"),
    "package that is gone": (lambda host: host.packages.clear(), "1 differ: package curl"),
    "kernel": (lambda host: host.kernel.update({"net.core.somaxconn": "128"}), "1 differ: sysctl net.core.somaxconn"),
    "packet filter": (
        lambda host: host.filters.update({"table inet cpq_oms": "table inet cpq_oms { chain x }"}),
        "1 differ: packet filter table inet cpq_oms",
    ),
    "stopped unit": (
        lambda host: host.units.update({"kafka.service": ("inactive", "no")}),
        "1 differ: unit kafka.service",
    ),
    "unit with an altered file": (
        lambda host: host.units.update({"kafka.service": ("active", "yes")}),
        "1 differ: unit kafka.service",
    ),
    "disabled unit": (
        lambda host: (host.root / "etc/systemd/system/multi-user.target.wants/kafka.service").unlink(),
        "2 differ: etc/systemd/system/multi-user.target.wants/kafka.service, unit kafka.service",
    ),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_one_alteration_brings_the_roles_back_and_is_named(host: Host, name: str) -> None:
    alter, expected = ALTERATIONS[name]
    host.ask("kept")
    alter(host)

    assert host.why() == expected


def test_what_a_release_and_a_service_write_is_none_of_it(host: Host) -> None:
    host.ask("kept")
    write("etc/cpq-oms/api.env", "APP_ENV=staging\nLOG_LEVEL=debug\n")(host)
    write("var-lib/kafka/meta.properties", "node.id=1\nversion=1\n")(host)
    append("etc/passwd", "cpq-api:x:998:998::/:/usr/sbin/nologin\n")(host)
    host.units["cpq-oms-api.service"] = ("inactive", "no")

    assert host.why() == ""


def test_many_differences_are_counted_and_some_named(host: Host) -> None:
    host.ask("kept")
    for number in range(9):
        write(f"opt/kafka/{number}.jar", "")(host)

    assert host.why().startswith("9 differ: opt/kafka/0.jar, opt/kafka/1.jar,")
    assert host.why().endswith("opt/kafka/5.jar, ...")


def test_other_inputs_a_day_and_a_wish_bring_the_roles_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.ask("kept")

    assert "are others than those it was left with" in host.why(inputs="6b1c")
    assert host.why(inputs="") == "a complete run was asked for"
    now = time.time()
    monkeypatch.setattr(RECEIPT.time, "time", lambda: now + 86_401)
    assert host.why() == "it was last looked at whole 86400 s ago, or longer"
    monkeypatch.setattr(RECEIPT.time, "time", lambda: now - 60)
    assert host.why() != "", "a receipt of the future"


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"inputs": "5f2a"}', '{"inputs": "5f2a", "at": null, "items": {}}']
)
def test_a_receipt_that_cannot_be_read_is_none(host: Host, content: str) -> None:
    write("etc/cpq-oms/receipt.json", content)(host)

    assert host.why() == "no complete run has left a receipt"


def test_what_cannot_be_looked_at_is_left_to_the_roles(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.ask("kept")
    kept = json.loads((host.root / "etc/cpq-oms/receipt.json").read_text())

    def broken() -> dict[str, str]:
        raise RECEIPT.UnseenError("nft exited 1: no permission")

    monkeypatch.setattr(RECEIPT, "nftables", broken)

    assert host.why() == "it cannot be looked at whole: nft exited 1: no permission"
    assert host.ask("kept")["settled"] is False
    assert json.loads((host.root / "etc/cpq-oms/receipt.json").read_text()) == kept


def test_in_check_mode_no_receipt_is_written(host: Host) -> None:
    host.ask("kept", check=True)

    assert host.why() == "no complete run has left a receipt"


def test_another_host_is_refused_before_it_is_looked_at(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECEIPT, "problem", lambda identity: f"{identity['host']}: expected staging, found prod")

    assert host.ask("compared")["msg"] == "kafka-1: expected staging, found prod"
    assert host.ask("kept")["failed"] is True
