#!/usr/bin/python
"""Ansible module: the certificates and keys of one host, as files. Its action plug-in signs; this part never sees the root's key.

Each identity is a folder with cert.pem, key.pem and identity.pem (both in one, as some programs want it). The folder is a link to a
set of files that never changes, so a reader never meets a key with the certificate of another.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: tls_identity
short_description: Certificates, keys and the trust bundle of one host
description: Called by the action plug-in of the same name, which says what to do; see it.
options:
  state:
    description: >-
      V(look) reports what is there and makes keys and requests for C(requests); V(installed) puts certificates in place;
      V(applied) makes running services take them.
    type: str
    choices: [look, installed, applied]
    required: true
  directory: {description: Folder of all identities., type: path, required: true}
  identities: {description: Group that reads the key and the rule to apply a new certificate by identity., type: dict, required: true}
  requests: {description: Identities to make a new key for. With V(look) those without a certificate get one anyway., type: list, elements: str, default: []}
  certificates: {description: New certificates by identity., type: dict, default: {}}
  bundle: {description: Certificates of the trusted roots., type: str, default: ""}
  applied: {description: Identities that are taken as applied; what their rule says about a unit is done., type: list, elements: str, default: []}
attributes:
  check_mode: {support: full}
"""

FILES = ("cert.pem", "key.pem", "identity.pem")
SECRET = {"key.pem", "identity.pem"}


class Host:
    """The folder of identities on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        parameters = module.params
        self.check = bool(module.check_mode)
        self.directory = Path(parameters["directory"])
        self.identities: Mapping[str, Mapping[str, Any]] = parameters["identities"]
        self.sets = self.directory / ".sets"
        self.stamps = self.directory / ".applied"

    def folder(self, identity: str) -> Path:
        """Return where users of the identity find its files."""
        return self.directory / identity

    def waiting(self, identity: str) -> Path:
        """Return the key that has no certificate yet."""
        return self.sets / f"{identity}.key"

    def certificate(self, identity: str) -> str:
        """Return the certificate, or nothing where it or its key is not whole."""
        folder = self.folder(identity)
        try:
            cert, key, both = ((folder / name).read_text() for name in FILES)
        except OSError:
            return ""
        return cert if both == key + cert and self._public(folder / "key.pem") == self._public_of(cert) else ""

    def request(self, identity: str) -> str:
        """Make a new key, which waits for its certificate, and return a request signed by it."""
        self._make_folders()
        key = self.waiting(identity)
        key.unlink(missing_ok=True)
        key.touch(mode=0o600)
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))
        return _openssl("req", "-new", "-key", str(key), "-subj", f"/CN={identity}")

    def install(self, identity: str, certificate: str) -> None:
        """Put a certificate and its waiting key in place of what was there, at once."""
        self._make_folders()
        key = self.waiting(identity).read_text()
        content = {"cert.pem": certificate, "key.pem": key, "identity.pem": key + certificate}
        new = Path(tempfile.mkdtemp(prefix=f"{identity}.", dir=self.sets))
        for name, text in content.items():
            descriptor = os.open(new / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        self.repair(identity, new)
        folder = self.folder(identity)
        link = self.sets / f".{identity}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(new)
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        link.rename(folder)
        self.waiting(identity).unlink()
        for old in self.sets.glob(f"{identity}.*"):
            if old != new:
                shutil.rmtree(old)

    def repair(self, identity: str, folder: Path | None = None) -> bool:
        """Set owner, group and mode of an identity's files; tell whether one was wrong."""
        place = folder or self.folder(identity)
        gid = self._gid(str(self.identities[identity]["group"]))
        wanted = {place: 0o750, **{place / name: 0o640 if name in SECRET else 0o644 for name in FILES}}
        wrong = [(path, mode) for path, mode in wanted.items() if _attributes(path) != (mode, 0, gid)]
        for path, mode in wrong if not self.check else ():
            os.chown(path, 0, gid)
            path.chmod(mode)
        return bool(wrong)

    def surplus(self) -> list[str]:
        """Name the identities that this host has and should not have."""
        found = {path.name for path in self.directory.glob("[!.]*") if path.name != "ca.pem"}
        return sorted(found - set(self.identities))

    def remove(self, identity: str) -> None:
        """Take an identity away."""
        folder = self.folder(identity)
        if folder.is_symlink():
            shutil.rmtree(folder.resolve(), ignore_errors=True)
            folder.unlink()
        elif folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink()
        (self.stamps / identity).unlink(missing_ok=True)

    def pending(self) -> list[str]:
        """Name the identities whose running service has not been told of its present files."""
        stale = [name for name in sorted(self.identities) if self._stamp(name) != self._stamped(name)]
        running = [name for name in stale if _active(self._rule(name).get("unit", ""))]
        for name in set(stale) - set(running) if not self.check else ():
            # What starts later reads them then.
            self.note(name)
        return running

    def apply(self, identity: str) -> str:
        """Make the running service take its files, and note that; return what was done."""
        rule, done = self._rule(identity), []
        for unit in _active(rule["unit"]) if rule.get("action") else ():
            done.append(f"{rule['action']} {unit}")
            if not self.check:
                _systemctl(rule["action"], unit)
        if not self.check:
            self.note(identity)
        return ", ".join(done)

    def note(self, identity: str) -> None:
        """Note that the present files are in use."""
        self._make_folders()
        _replace(self.stamps / identity, self._stamp(identity), 0o600)

    def trust(self, bundle: str) -> bool:
        """Write the trust bundle; tell whether it was another."""
        path = self.directory / "ca.pem"
        if path.is_file() and path.read_text() == bundle and _attributes(path) == (0o644, 0, 0):
            return False
        if not self.check:
            self._make_folders()
            _replace(path, bundle, 0o644)
        return True

    def _make_folders(self) -> None:
        for path, mode in ((self.directory, 0o755), (self.sets, 0o711), (self.stamps, 0o700)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)

    def _rule(self, identity: str) -> Mapping[str, Any]:
        return self.identities[identity].get("apply") or {}

    def _gid(self, group: str) -> int:
        """Return the group's number. One whose package is not installed yet is made: the package then takes it."""
        with contextlib.suppress(KeyError):
            return grp.getgrnam(group).gr_gid
        if self.check:
            return -1
        subprocess.run(["groupadd", "--system", group], check=True, capture_output=True)
        return grp.getgrnam(group).gr_gid

    def _stamp(self, identity: str) -> str:
        """Return what the identity's files are, trust bundle included."""
        paths = (self.directory / "ca.pem", self.folder(identity) / "cert.pem")
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths if path.exists())).hexdigest()

    def _stamped(self, identity: str) -> str:
        path = self.stamps / identity
        return path.read_text() if path.exists() else ""

    @staticmethod
    def _public(key: Path) -> str:
        with contextlib.suppress(subprocess.CalledProcessError):
            return _openssl("pkey", "-in", str(key), "-pubout")
        return "no key"

    @staticmethod
    def _public_of(certificate: str) -> str:
        with contextlib.suppress(subprocess.CalledProcessError):
            return _openssl("x509", "-noout", "-pubkey", given=certificate)
        return "no certificate"


def _attributes(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def _replace(path: Path, text: str, mode: int) -> None:
    new = path.parent / f".{path.name}.new"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.chmod(mode)
    new.rename(path)


def _openssl(*words: str, given: str = "") -> str:
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, text=True, check=True)
    return done.stdout


def _active(pattern: str) -> list[str]:
    if not pattern:
        return []
    listed = subprocess.run(
        ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", pattern],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]


def _systemctl(action: str, unit: str) -> None:
    subprocess.run(["systemctl", action, unit], capture_output=True, text=True, check=True)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the state says; return the module's result."""
    host, parameters = Host(module), module.params
    if parameters["state"] == "look":
        found = {name: host.certificate(name) for name in host.identities}
        wanted = {*parameters["requests"], *(name for name, text in found.items() if not text)}
        requests = {} if host.check else {name: host.request(name) for name in sorted(wanted)}
        drifted = [name for name, text in found.items() if text and name not in wanted and host.repair(name)]
        return {
            "changed": bool(drifted),
            "certificates": found,
            "requests": requests,
            "repaired": drifted,
            "surplus": host.surplus(),
        }
    if parameters["state"] == "installed":
        surplus = host.surplus()
        if not host.check:
            for name, certificate in parameters["certificates"].items():
                host.install(name, certificate)
            for name in surplus:
                host.remove(name)
        trusted = host.trust(parameters["bundle"])
        return {
            "changed": bool(parameters["certificates"] or surplus or trusted),
            "trusted": trusted,
            "removed": surplus,
            "pending": host.pending(),
        }
    done = {name: host.apply(name) for name in parameters["applied"]}
    return {"changed": bool(done), "done": done}


class UnloggedModule(AnsibleModule):
    """A module whose arguments stay out of the host's journal: certificates would fill it."""

    def _log_invocation(self) -> None:
        pass


def main() -> None:
    """Run as an Ansible module."""
    module = UnloggedModule(
        argument_spec={
            "state": {"type": "str", "choices": ["look", "installed", "applied"], "required": True},
            "directory": {"type": "path", "required": True},
            "identities": {"type": "dict", "required": True},
            "requests": {"type": "list", "elements": "str", "default": []},
            "certificates": {"type": "dict", "default": {}},
            "bundle": {"type": "str", "default": ""},
            "applied": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{' '.join(error.cmd)}: {(error.stderr or error.stdout or '').strip()}")
    except OSError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
